//! The queue itself: first in, first out, and everybody's place in it.
//!
//! A treap that counts: a search tree by ticket whose shape comes from a hash of the key, with the size of every subtree. It stays about 2 ln n deep, so
//! entering, leaving and asking for a place cost O(log n). Nodes lie in one vector and are used again.

use crate::id::ConversationId;

/// A ticket, and the conversation for the case that two homes announce the same ticket.
pub(super) type Place = (u64, ConversationId);

const NONE: u32 = u32::MAX;

struct Node {
    place: Place,
    /// Parents weigh at least what their children do.
    weight: u64,
    left: u32,
    /// In an unused node: the next unused one.
    right: u32,
    /// Nodes in this subtree.
    size: u32,
}

/// Waiting conversations in the order of their tickets.
pub(super) struct Line {
    nodes: Vec<Node>,
    root: u32,
    unused: u32,
}

impl Line {
    pub(super) fn new() -> Line {
        Line { nodes: Vec::new(), root: NONE, unused: NONE }
    }

    pub(super) fn len(&self) -> u32 {
        self.size(self.root)
    }

    /// Enters; `false` if it stands there already.
    pub(super) fn insert(&mut self, place: Place) -> bool {
        if self.find(place) {
            return false;
        }
        let (before, after) = self.split(self.root, place);
        let node = self.take_node(place);
        let before = self.merge(before, node);
        self.root = self.merge(before, after);
        true
    }

    /// Leaves; `false` if it was not there.
    pub(super) fn remove(&mut self, place: Place) -> bool {
        if !self.find(place) {
            return false;
        }
        self.root = self.remove_below(self.root, place);
        true
    }

    /// How many stand before `place`, whether or not that stands there itself.
    pub(super) fn rank(&self, place: Place) -> u32 {
        let (mut at, mut before) = (self.root, 0);
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.place < place {
                before += self.size(node.left) + 1;
                at = node.right;
            } else {
                at = node.left;
            }
        }
        before
    }

    /// Shows the first `max`, in order. No allocation.
    pub(super) fn for_first(&self, max: u32, mut show: impl FnMut(Place)) {
        let mut left = max;
        self.show_below(self.root, &mut left, &mut show);
    }

    /// All, in order.
    pub(super) fn iter(&self) -> Iter<'_> {
        let mut iter = Iter { line: self, path: Vec::new() };
        iter.descend(self.root);
        iter
    }

    /// Those behind `place`, in order, whether or not that stands there itself.
    pub(super) fn iter_behind(&self, place: Place) -> Iter<'_> {
        let mut iter = Iter { line: self, path: Vec::new() };
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.place > place {
                iter.path.push(at);
                at = node.left;
            } else {
                at = node.right;
            }
        }
        iter
    }

    /// Asserts that the tree is one.
    pub(super) fn check(&self) {
        let mut used = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            if node.size == 0 {
                continue;
            }
            used += 1;
            assert_eq!(node.size, self.size(node.left) + self.size(node.right) + 1, "size of node {index}");
            for child in [node.left, node.right].into_iter().filter(|&child| child != NONE) {
                assert!(self.nodes[child as usize].weight <= node.weight, "weight below node {index}");
            }
        }
        assert_eq!(used, self.len(), "every node is in the tree or unused");
        assert!(self.iter().is_sorted_by(|a, b| a < b), "in order, each once");
    }

    fn size(&self, at: u32) -> u32 {
        if at == NONE { 0 } else { self.nodes[at as usize].size }
    }

    fn find(&self, place: Place) -> bool {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.place == place {
                return true;
            }
            at = if node.place < place { node.right } else { node.left };
        }
        false
    }

    fn take_node(&mut self, place: Place) -> u32 {
        let node = Node { place, weight: weight_of(place), left: NONE, right: NONE, size: 1 };
        if self.unused == NONE {
            self.nodes.push(node);
            return u32::try_from(self.nodes.len() - 1).expect("memory ends before 2³² conversations");
        }
        let at = self.unused;
        self.unused = self.nodes[at as usize].right;
        self.nodes[at as usize] = node;
        at
    }

    fn count(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        self.nodes[at as usize].size = self.size(node.left) + self.size(node.right) + 1;
    }

    /// What is below `at`, parted into those before `place` and the others.
    fn split(&mut self, at: u32, place: Place) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.nodes[at as usize].place < place {
            let (before, after) = self.split(self.nodes[at as usize].right, place);
            self.nodes[at as usize].right = before;
            self.count(at);
            (at, after)
        } else {
            let (before, after) = self.split(self.nodes[at as usize].left, place);
            self.nodes[at as usize].left = after;
            self.count(at);
            (before, at)
        }
    }

    /// One tree of two, where all of `before` stands before all of `after`.
    fn merge(&mut self, before: u32, after: u32) -> u32 {
        if before == NONE {
            return after;
        }
        if after == NONE {
            return before;
        }
        if self.nodes[before as usize].weight >= self.nodes[after as usize].weight {
            let right = self.merge(self.nodes[before as usize].right, after);
            self.nodes[before as usize].right = right;
            self.count(before);
            before
        } else {
            let left = self.merge(before, self.nodes[after as usize].left);
            self.nodes[after as usize].left = left;
            self.count(after);
            after
        }
    }

    /// The tree below `at` without `place`, which is there.
    fn remove_below(&mut self, at: u32, place: Place) -> u32 {
        let Node { place: here, left, right, .. } = self.nodes[at as usize];
        if here == place {
            let rest = self.merge(left, right);
            let node = &mut self.nodes[at as usize];
            node.size = 0;
            node.right = self.unused;
            self.unused = at;
            return rest;
        }
        if here < place {
            self.nodes[at as usize].right = self.remove_below(right, place);
        } else {
            self.nodes[at as usize].left = self.remove_below(left, place);
        }
        self.count(at);
        at
    }

    fn show_below(&self, at: u32, left: &mut u32, show: &mut impl FnMut(Place)) {
        if at == NONE || *left == 0 {
            return;
        }
        let node = &self.nodes[at as usize];
        self.show_below(node.left, left, show);
        if *left > 0 {
            *left -= 1;
            show(node.place);
        }
        self.show_below(node.right, left, show);
    }
}

/// Mixes ticket and id. Servers make both, so nobody outside can choose a bad shape.
fn weight_of((ticket, c): Place) -> u64 {
    let bits = c.bits();
    let mut mixed = ticket ^ (bits as u64) ^ ((bits >> 64) as u64).rotate_left(32);
    mixed = mixed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// In-order walk.
pub(super) struct Iter<'a> {
    line: &'a Line,
    /// Nodes that are still to be shown, each before its right subtree.
    path: Vec<u32>,
}

impl Iter<'_> {
    fn descend(&mut self, mut at: u32) {
        while at != NONE {
            self.path.push(at);
            at = self.line.nodes[at as usize].left;
        }
    }
}

impl Iterator for Iter<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        let node = &self.line.nodes[self.path.pop()? as usize];
        self.descend(node.right);
        Some(node.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Entropy, Slot};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn conversation(number: u64) -> ConversationId {
        ConversationId::from_bits((u128::from(ConversationId::KIND) << 112) | u128::from(number)).unwrap()
    }

    #[test]
    fn a_hundred_thousand_in_line_are_found_in_a_few_steps() {
        let mut entropy = Entropy::new([1; 32]);
        let mut line = Line::new();
        let slot = Slot::new(1).unwrap();
        let places: Vec<Place> =
            (0..100_000).map(|ticket| (ticket, ConversationId::mint(slot, &mut entropy))).collect();
        for &place in &places {
            assert!(line.insert(place));
        }
        fn depth(line: &Line, at: u32) -> u32 {
            if at == NONE {
                return 0;
            }
            let node = &line.nodes[at as usize];
            1 + depth(line, node.left).max(depth(line, node.right))
        }
        assert!(depth(&line, line.root) < 64, "depth {}", depth(&line, line.root));
        assert_eq!(line.rank(places[77_777]), 77_777);
        for &place in places.iter().step_by(2) {
            assert!(line.remove(place));
        }
        assert_eq!(line.rank(places[77_777]), 38_888);
        let nodes = line.nodes.len();
        for &place in places.iter().step_by(2) {
            assert!(line.insert(place));
        }
        assert_eq!(line.nodes.len(), nodes, "nodes are used again");
        line.check();
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set_that_knows_ranks(steps in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..3), 1..300)) {
            let mut line = Line::new();
            let mut model = BTreeSet::new();
            for (enter, ticket, number) in steps {
                let place = (ticket, conversation(number));
                if enter {
                    prop_assert_eq!(line.insert(place), model.insert(place));
                } else {
                    prop_assert_eq!(line.remove(place), model.remove(&place));
                }
                line.check();
                prop_assert_eq!(line.len() as usize, model.len());
                prop_assert_eq!(line.rank(place) as usize, model.range(..place).count());
                prop_assert!(line.iter().eq(model.iter().copied()));
                let behind = model.range(place..).skip_while(|&&other| other == place);
                prop_assert!(line.iter_behind(place).eq(behind.copied()));
                let mut first = Vec::new();
                line.for_first(5, |place| first.push(place));
                prop_assert!(first.into_iter().eq(model.iter().copied().take(5)));
            }
        }
    }
}
