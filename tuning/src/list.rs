//! The kernel's lists of processors: `0-3,8,10-11`.

use core::fmt;

/// Largest number of a processor that is believed; the kernel's own bound is 8,192.
const CPU_NUMBER_MAX: u16 = 8_191;

/// A set of processors, ascending, none twice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CpuList(Vec<u16>);

/// The text is no list of processors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListError(String);

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no list of processors such as 0-3,8", self.0)
    }
}

impl CpuList {
    /// Reads the kernel's form; white space around it is ignored, an empty text is an empty set.
    pub fn parse(text: &str) -> Result<CpuList, ListError> {
        let wrong = || ListError(text.trim().chars().take(80).collect());
        let number = |part: &str| match part.trim().parse::<u16>() {
            Ok(number) if number <= CPU_NUMBER_MAX => Ok(number),
            _ => Err(wrong()),
        };
        let mut cpus = Vec::new();
        if !text.trim().is_empty() {
            for part in text.split(',') {
                match part.split_once('-') {
                    None => cpus.push(number(part)?),
                    Some((first, last)) => {
                        let (first, last) = (number(first)?, number(last)?);
                        if first > last {
                            return Err(wrong());
                        }
                        cpus.extend(first..=last);
                    }
                }
            }
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(CpuList(cpus))
    }

    /// The processors, ascending.
    pub fn cpus(&self) -> &[u16] {
        &self.0
    }

    /// Whether the processor is one of them.
    pub fn contains(&self, cpu: u16) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }
}

impl FromIterator<u16> for CpuList {
    fn from_iter<I: IntoIterator<Item = u16>>(cpus: I) -> CpuList {
        let mut cpus: Vec<u16> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        CpuList(cpus)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut separator = "";
        while let Some(&first) = rest.first() {
            let run = rest.iter().enumerate().take_while(|&(i, &cpu)| usize::from(cpu - first) == i).count();
            match run {
                1 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{}", rest[run - 1])?,
            }
            separator = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_and_writes_the_kernels_form() {
        for (text, written) in [("0-3,8,10-11\n", "0-3,8,10-11"), ("5", "5"), ("", ""), ("3,1,2,2", "1-3")] {
            assert_eq!(CpuList::parse(text).unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["a", "3-1", "1,,2", "-1", "0-99999", "1-"] {
            assert!(CpuList::parse(text).is_err(), "{text:?}");
        }
    }
}
