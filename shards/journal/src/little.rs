//! Little-endian fields at fixed places, for headers that are laid out by hand.

#[inline]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes were sliced"))
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

/// Where the first byte that is not zero stands, if there is one.
pub(crate) fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    // Eight bytes at a time: recovery looks at a lot of zeros.
    let (words, rest) = bytes.as_chunks::<8>();
    let word = words.iter().position(|word| u64::from_ne_bytes(*word) != 0);
    match word {
        Some(index) => bytes[index * 8..].iter().position(|byte| *byte != 0).map(|at| index * 8 + at),
        None => rest.iter().position(|byte| *byte != 0).map(|at| words.len() * 8 + at),
    }
}

#[cfg(test)]
mod tests {
    use super::first_nonzero;

    #[test]
    fn the_first_byte_that_is_not_zero_is_found_in_words_and_in_the_rest() {
        assert_eq!(first_nonzero(&[0; 19]), None);
        for at in 0..19 {
            let mut bytes = [0u8; 19];
            bytes[at] = 1;
            assert_eq!(first_nonzero(&bytes), Some(at));
        }
    }
}
