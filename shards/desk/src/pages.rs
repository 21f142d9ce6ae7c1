//! An array that grows by pages: elements never move, so growing copies nothing, stalls nobody and leaves no holes behind.

use core::ops::{Index, IndexMut};

const PAGE: usize = 128;
const PAGES_AT_ONCE: usize = 1024;

/// A growing array in pages of 128 elements.
#[derive(Debug)]
pub struct Pages<T> {
    pages: Vec<Vec<T>>,
    count: usize,
    grown: u64,
}

impl<T> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages { pages: Vec::with_capacity(PAGES_AT_ONCE), count: 0, grown: 0 }
    }
}

impl<T> Pages<T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.count
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// How often the allocator was called since it was made.
    pub fn grown(&self) -> u64 {
        self.grown
    }
    /// The element, if there are so many.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }
    /// The element, if there are so many.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE)?.get_mut(index % PAGE)
    }
    /// Appends one; returns its index.
    pub fn push(&mut self, element: T) -> usize {
        if self.count == self.pages.len() * PAGE {
            self.grown += 1 + u64::from(self.pages.len() == self.pages.capacity());
            self.pages.push(Vec::with_capacity(PAGE));
        }
        self.pages.last_mut().expect("a page was made above").push(element);
        self.count += 1;
        self.count - 1
    }
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }
}

impl<T> Index<usize> for Pages<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.pages[index / PAGE][index % PAGE]
    }
}

impl<T> IndexMut<usize> for Pages<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pages[index / PAGE][index % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_stays_in_its_place() {
        let mut pages = Pages::default();
        assert!(pages.is_empty() && pages.get(0).is_none());
        pages.push(7u32);
        let first: *const u32 = &raw const pages[0];
        for number in 1..1000 {
            assert_eq!(pages.push(number), number as usize);
        }
        assert_eq!(first, &raw const pages[0], "growing moves nothing");
        pages[500] = 1;
        assert_eq!((pages.len(), pages[999], pages.get(500), pages.get(1000)), (1000, 999, Some(&1), None));
        assert_eq!(pages.get_mut(1023), None);
        assert_eq!(pages.iter().count(), 1000);
        assert_eq!(pages.grown(), 1000u64.div_ceil(PAGE as u64));
    }
}
