//! Where the variable part of conversations lives: blocks of 16 bytes to 1 MiB, cut from slabs of 1 MiB that are never given back.
//!
//! A block has one of 60 sizes (four to each doubling, so at most a fifth is wasted); a freed block waits in the list of its size.
//! Nothing here calls the allocator except for a new slab, which is counted. The bound is a question asked before something is
//! decided ([`Store::used_bytes`]): what the journal holds is never refused.

/// Size in bytes of a slab, and of the largest block.
pub const SLAB_SIZE: usize = 1 << 20;
/// Blocks are multiples of this many bytes.
pub const UNIT_SIZE: usize = 16;

const UNITS_PER_SLAB: u32 = (SLAB_SIZE / UNIT_SIZE) as u32;
/// So many slabs a [`Block`] can name: 64 GiB.
const SLAB_COUNT_MAX: usize = 1 << 16;
/// Up to here every multiple of 16 is a size of its own.
const SMALL_SIZE_MAX: usize = 128;
const SMALL_CLASSES: usize = SMALL_SIZE_MAX / UNIT_SIZE;
const CLASS_COUNT: usize = SMALL_CLASSES + 4 * (SLAB_SIZE.ilog2() - SMALL_SIZE_MAX.ilog2()) as usize;

/// Where a block is. Its size is known to whoever holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block(u32);

impl Block {
    /// No block.
    pub const NONE: Block = Block(0);

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
    /// As a number that [`Block::from_bits`] reads back; 0 = none.
    pub fn bits(self) -> u32 {
        self.0
    }
    /// Reads what [`Block::bits`] gave.
    pub fn from_bits(bits: u32) -> Block {
        Block(bits)
    }

    fn slab(self) -> usize {
        (self.0 / UNITS_PER_SLAB) as usize
    }
    fn offset(self) -> usize {
        (self.0 % UNITS_PER_SLAB) as usize * UNIT_SIZE
    }
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    slab: usize,
    start: usize,
    end: usize,
}

impl Piece {
    const NONE: Piece = Piece { slab: 0, start: 0, end: 0 };

    fn size(self) -> usize {
        self.end - self.start
    }
    /// Takes `size` bytes off its start.
    fn cut(&mut self, size: usize) -> Block {
        let units = self.slab as u64 * u64::from(UNITS_PER_SLAB) + (self.start / UNIT_SIZE) as u64;
        self.start += size;
        Block(u32::try_from(units).expect("a shard holds less than 64 GiB of conversations"))
    }
}

/// The pool of blocks of one shard.
#[derive(Debug)]
pub struct Store {
    slabs: Vec<Box<[u8]>>,
    /// First free block of each class; the next one's number is in its first four bytes.
    free: [Block; CLASS_COUNT],
    /// The piece that new blocks are cut from: its slab, and the bytes of it that are left.
    piece: Piece,
    used_bytes: usize,
    bytes_max: usize,
    grown: u64,
}

impl Store {
    /// An empty store that calls itself full at `bytes_max` bytes in use.
    pub fn new(bytes_max: usize) -> Store {
        Store {
            slabs: Vec::with_capacity((bytes_max / SLAB_SIZE + 2).min(SLAB_COUNT_MAX)),
            free: [Block::NONE; CLASS_COUNT],
            piece: Piece::NONE,
            used_bytes: 0,
            bytes_max,
            grown: 0,
        }
    }

    /// Bytes in use, waste within blocks included.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }
    /// Bytes taken from the allocator.
    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        self.slabs.len() * SLAB_SIZE
    }
    /// The bound on [`Store::used_bytes`].
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }
    /// How often the allocator was called since [`Store::new`].
    pub fn grown(&self) -> u64 {
        self.grown
    }

    /// A block of at least `size` bytes (1 to [`SLAB_SIZE`]) with unspecified content.
    pub fn take(&mut self, size: usize) -> Block {
        let (class, size) = class_of(size);
        self.used_bytes += size;
        if !self.free[class].is_none() {
            return self.take_free(class);
        }
        if self.piece.size() < size {
            self.give_piece();
            self.piece = self.next_piece(class, size);
        }
        self.piece.cut(size)
    }

    /// Takes back a block that was taken with the same `size`.
    pub fn give(&mut self, block: Block, size: usize) {
        let (class, size) = class_of(size);
        self.used_bytes -= size;
        self.put_free(block, class);
    }

    /// The first `size` bytes of a block.
    pub fn bytes(&self, block: Block, size: usize) -> &[u8] {
        debug_assert!(!block.is_none());
        &self.slabs[block.slab()][block.offset()..][..size]
    }

    /// The first `size` bytes of a block, to be changed.
    pub fn bytes_mut(&mut self, block: Block, size: usize) -> &mut [u8] {
        debug_assert!(!block.is_none());
        &mut self.slabs[block.slab()][block.offset()..][..size]
    }

    /// Copies the first `size` bytes of one block to another.
    pub fn copy(&mut self, from: Block, to: Block, size: usize) {
        assert_ne!(from, to, "a block is not copied onto itself");
        if from.slab() == to.slab() {
            let start = from.offset();
            self.slabs[from.slab()].copy_within(start..start + size, to.offset());
        } else {
            let [source, target] =
                self.slabs.get_disjoint_mut([from.slab(), to.slab()]).expect("two slabs that exist");
            target[to.offset()..][..size].copy_from_slice(&source[from.offset()..][..size]);
        }
    }

    /// What is left of the piece goes to the free lists, largest blocks first.
    fn give_piece(&mut self) {
        for class in (0..CLASS_COUNT).rev() {
            while self.piece.size() >= size_of_class(class) {
                let block = self.piece.cut(size_of_class(class));
                self.put_free(block, class);
            }
        }
    }

    /// The largest free block that has `size` bytes, or else a new slab.
    fn next_piece(&mut self, class: usize, size: usize) -> Piece {
        if let Some(larger) = (class + 1..CLASS_COUNT).rev().find(|&larger| !self.free[larger].is_none()) {
            let block = self.take_free(larger);
            let start = block.offset();
            return Piece { slab: block.slab(), start, end: start + size_of_class(larger) };
        }
        if self.slabs.is_empty() {
            self.add_slab();
            // The first unit of the first slab is never handed out: its number means "none".
            let piece = Piece { slab: 0, start: UNIT_SIZE, end: SLAB_SIZE };
            if piece.size() >= size {
                return piece;
            }
            self.piece = piece;
            self.give_piece();
        }
        self.add_slab();
        Piece { slab: self.slabs.len() - 1, start: 0, end: SLAB_SIZE }
    }

    fn add_slab(&mut self) {
        self.grown += u64::from(self.slabs.len() == self.slabs.capacity());
        self.slabs.push(vec![0; SLAB_SIZE].into_boxed_slice());
        self.grown += 1;
    }

    fn take_free(&mut self, class: usize) -> Block {
        let block = self.free[class];
        let next = self.bytes(block, 4).try_into().expect("four bytes were asked for");
        self.free[class] = Block(u32::from_le_bytes(next));
        block
    }

    fn put_free(&mut self, block: Block, class: usize) {
        let next = self.free[class];
        self.bytes_mut(block, 4).copy_from_slice(&next.0.to_le_bytes());
        self.free[class] = block;
    }
}

/// How many bytes a block of `size` bytes really takes.
pub fn rounded(size: usize) -> usize {
    class_of(size).1
}

/// The class of blocks that hold `size` bytes, and the size of those blocks.
fn class_of(size: usize) -> (usize, usize) {
    assert!(size > 0, "a block has a byte");
    assert!(size <= SLAB_SIZE, "a block lies in one slab");
    if size <= SMALL_SIZE_MAX {
        let units = size.div_ceil(UNIT_SIZE);
        return (units - 1, units * UNIT_SIZE);
    }
    let last = size - 1;
    let doubling = last.ilog2();
    let step = 1usize << (doubling - 2);
    let steps = last / step;
    let class = SMALL_CLASSES + 4 * (doubling - SMALL_SIZE_MAX.ilog2()) as usize + (steps & 3);
    (class, (steps + 1) * step)
}

fn size_of_class(class: usize) -> usize {
    match class.checked_sub(SMALL_CLASSES) {
        None => (class + 1) * UNIT_SIZE,
        Some(large) => (large % 4 + 5) << (SMALL_SIZE_MAX.ilog2() as usize + large / 4 - 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it_and_wastes_at_most_a_fifth() {
        let mut seen = [false; CLASS_COUNT];
        for size in (1..5000).chain((5000..=SLAB_SIZE).step_by(997)).chain([SLAB_SIZE]) {
            let (class, rounded) = class_of(size);
            assert_eq!(size_of_class(class), rounded);
            assert!(rounded >= size && rounded.is_multiple_of(UNIT_SIZE));
            assert!(class == 0 || size_of_class(class - 1) < size, "{size}");
            assert!(rounded - size < UNIT_SIZE || (rounded - size) * 5 <= rounded, "{size} in {rounded}");
            seen[class] = true;
        }
        assert!(seen.iter().all(|&seen| seen));
    }

    #[test]
    fn blocks_do_not_overlap_and_a_freed_one_is_used_again() {
        let mut store = Store::new(8 << 20);
        let mut blocks = Vec::new();
        let mut size = 1;
        while store.held_bytes() <= 6 * SLAB_SIZE {
            let block = store.take(size);
            store.bytes_mut(block, size).fill(blocks.len() as u8);
            blocks.push((block, size));
            size = size * 7 % 40_009 + 1;
        }
        for (number, &(block, size)) in blocks.iter().enumerate() {
            assert!(store.bytes(block, size).iter().all(|&byte| byte == number as u8));
        }
        let (held, used) = (store.held_bytes(), store.used_bytes());
        for &(block, size) in &blocks {
            store.give(block, size);
        }
        assert_eq!(store.used_bytes(), 0);
        for &(_, size) in &blocks {
            store.take(size);
        }
        assert_eq!((store.held_bytes(), store.used_bytes()), (held, used));
        assert_eq!(store.grown(), (held / SLAB_SIZE) as u64);
    }

    #[test]
    fn the_rest_of_a_slab_is_not_lost() {
        let mut store = Store::new(4 << 20);
        let whole = store.take(SLAB_SIZE);
        assert_eq!(store.held_bytes(), 2 * SLAB_SIZE, "the first slab has a unit less than a slab");
        for _ in 0..4 {
            store.take(SLAB_SIZE / 8);
        }
        assert_eq!(store.held_bytes(), 2 * SLAB_SIZE);
        store.give(whole, SLAB_SIZE);
        assert_eq!(store.take(SLAB_SIZE), whole);
    }

    #[test]
    fn a_copy_works_within_a_slab_and_between_two() {
        let mut store = Store::new(4 << 20);
        let near = store.take(64);
        let beside = store.take(64);
        store.take(SLAB_SIZE);
        let far = store.take(64);
        let further = store.take(SLAB_SIZE);
        store.bytes_mut(near, 64).fill(7);
        store.copy(near, beside, 64);
        store.copy(beside, further, 64);
        assert_eq!(store.bytes(further, 64), [7; 64]);
        assert!(!far.is_none());
    }
}
