//! "Did you mean": the nearest name by edit distance.

/// The known name that is nearest to `given`, if any is near enough to be a slip of the pen.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = given.len().div_ceil(3).clamp(1, 4);
    known
        .map(|name| (distance(&given.to_ascii_lowercase(), name), name))
        .min()
        .filter(|&(d, name)| d <= near || (given.len() >= 4 && name.contains(given)))
        .map(|(_, name)| name)
}

/// Letters to change, add or drop.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let kept = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_name_and_nonsense_finds_none() {
        let known = || ["listen", "admin_listen", "shards", "max_connections"].into_iter();
        assert_eq!(nearest("lisen", known()), Some("listen"));
        assert_eq!(nearest("shard", known()), Some("shards"));
        assert_eq!(nearest("maxconnections", known()), Some("max_connections"));
        assert_eq!(nearest("zebra", known()), None);
    }
}
