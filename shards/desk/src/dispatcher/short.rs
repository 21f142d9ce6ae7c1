//! A short text without a heap.

/// At most `N` (≤ 255) bytes of UTF-8, inline, so that it can travel in mail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Short<const N: usize> {
    size: u8,
    /// Zero behind `size`, so that equal texts are equal values.
    bytes: [u8; N],
}

impl<const N: usize> Short<N> {
    /// The text, cut before the first character that does not fit.
    pub fn new(text: &str) -> Self {
        const { assert!(N <= u8::MAX as usize, "the size is one byte") };
        let mut size = text.len().min(N);
        while !text.is_char_boundary(size) {
            size -= 1;
        }
        let mut bytes = [0; N];
        bytes[..size].copy_from_slice(&text.as_bytes()[..size]);
        Short { size: size as u8, bytes }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.size)]).expect("cut between characters")
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Short::new("")
    }
}

impl<const N: usize> core::fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_is_kept_whole() {
        assert_eq!(Short::<5>::new("hallo").as_str(), "hallo");
        assert_eq!(Short::<5>::new("").as_str(), "");
        assert!(Short::<5>::default().is_empty());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(Short::<5>::new("hallo welt").as_str(), "hallo");
        assert_eq!(Short::<5>::new("你好吗").as_str(), "你");
        assert_eq!(Short::<3>::new("ab😀").as_str(), "ab");
        assert_eq!(Short::<2>::new("😀").as_str(), "");
    }

    #[test]
    fn texts_are_compared_by_what_is_kept() {
        assert_eq!(Short::<4>::new("abcdX"), Short::<4>::new("abcdY"));
        assert_ne!(Short::<4>::new("abc"), Short::<4>::new("abcd"));
    }
}
