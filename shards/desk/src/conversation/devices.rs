//! What devices have said already: the last 256 `cid`s of each, so that a repetition is recognised.
//!
//! Derived from the events: each keeps its device and its `cid`, and the tables here only find it quickly. Per device a ring of
//!
//! ```text
//! +------------------------+------------------------+
//! | tag (2) × capacity     | s (4) × capacity       |    capacity: 4, 8, … 256
//! +------------------------+------------------------+
//! ```
//! A tag is 16 bits of the `cid`'s fingerprint; what matches is compared with the event itself.

use super::run::Run;
use crate::store::{Block, Store};

/// Fingerprints that a conversation remembers of each device.
pub const REMEMBERED_PER_DEVICE: u32 = 256;
/// Devices that one conversation remembers; another one is refused with `overloaded`.
pub const DEVICES_MAX: u32 = 4096;

/// Of them, those that a visitor can fill: he must not keep agents out of his conversation.
pub(super) const VISITOR_DEVICES_MAX: u32 = DEVICES_MAX / 4;

const ROOM_AT_ONCE: u32 = 4;
const TAG_SIZE: usize = 2;
const NUMBER_SIZE: usize = 4;

/// Fingerprint (16), ring (4), entries (2), oldest (2).
pub(super) type Devices = Run<24, 2>;

#[derive(Clone, Copy)]
struct Device {
    fingerprint: u128,
    ring: Block,
    count: u32,
    /// Place of the oldest entry; 0 until the ring is full.
    oldest: u32,
}

impl Device {
    fn read(bytes: &[u8; 24]) -> Device {
        let (fingerprint, rest) = bytes.split_first_chunk::<16>().expect("24 bytes");
        Device {
            fingerprint: u128::from_le_bytes(*fingerprint),
            ring: Block::from_bits(u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]])),
            count: u32::from(u16::from_le_bytes([rest[4], rest[5]])),
            oldest: u32::from(u16::from_le_bytes([rest[6], rest[7]])),
        }
    }

    fn bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.ring.bits().to_le_bytes());
        bytes[20..22].copy_from_slice(&(self.count as u16).to_le_bytes());
        bytes[22..].copy_from_slice(&(self.oldest as u16).to_le_bytes());
        bytes
    }

    fn capacity(self) -> usize {
        self.count.next_power_of_two().max(ROOM_AT_ONCE) as usize
    }
}

fn ring_size(capacity: usize) -> usize {
    capacity * (TAG_SIZE + NUMBER_SIZE)
}

fn tag_of(cid: u128) -> [u8; 2] {
    (cid as u16).to_le_bytes()
}

/// Which device of the conversation this is, if it is known.
pub(super) fn find(devices: &Devices, store: &Store, fingerprint: u128) -> Option<u32> {
    let fingerprint = fingerprint.to_le_bytes();
    devices.iter(store).position(|device| device[..16] == fingerprint).map(|index| index as u32)
}

/// The fingerprint of a device that `find` or `intern` gave.
pub(super) fn fingerprint(devices: &Devices, store: &Store, index: u32) -> u128 {
    Device::read(devices.at(store, index)).fingerprint
}

/// Its index, made if there is room for one more.
pub(super) fn intern(devices: &mut Devices, store: &mut Store, fingerprint: u128) -> Option<u32> {
    if let Some(index) = find(devices, store, fingerprint) {
        return Some(index);
    }
    if devices.count() == DEVICES_MAX {
        return None;
    }
    let device = Device { fingerprint, ring: Block::NONE, count: 0, oldest: 0 };
    devices.push(store, device.bytes());
    Some(devices.count() - 1)
}

/// Remembers that device `index` said `cid` as number `s`, the highest so far.
pub(super) fn remember(devices: &Devices, store: &mut Store, index: u32, cid: u128, s: u32) {
    let mut device = Device::read(devices.at(store, index));
    let capacity = device.capacity();
    let mut place = device.count;
    if device.count == REMEMBERED_PER_DEVICE {
        place = device.oldest;
        device.oldest = (device.oldest + 1) % REMEMBERED_PER_DEVICE;
    } else {
        if device.count == 0 && device.ring.is_none() {
            device.ring = store.take(ring_size(capacity));
        } else if device.count as usize == capacity {
            device.ring = doubled(store, device.ring, capacity);
        }
        device.count += 1;
    }
    let capacity = device.capacity();
    let ring = store.bytes_mut(device.ring, ring_size(capacity));
    let (tags, numbers) = ring.split_at_mut(capacity * TAG_SIZE);
    tags.as_chunks_mut::<TAG_SIZE>().0[place as usize] = tag_of(cid);
    numbers.as_chunks_mut::<NUMBER_SIZE>().0[place as usize] = s.to_le_bytes();
    devices.set(store, index, device.bytes());
}

fn doubled(store: &mut Store, ring: Block, capacity: usize) -> Block {
    let larger = store.take(ring_size(2 * capacity));
    store.copy(ring, larger, ring_size(capacity));
    store.give(ring, ring_size(capacity));
    let start = capacity * TAG_SIZE;
    store
        .bytes_mut(larger, ring_size(2 * capacity))
        .copy_within(start..start + capacity * NUMBER_SIZE, 2 * capacity * TAG_SIZE);
    larger
}

/// Forgets everything that was said; keeps the devices.
pub(super) fn forget_all(devices: &Devices, store: &mut Store) {
    for index in 0..devices.count() {
        let mut device = Device::read(devices.at(store, index));
        if !device.ring.is_none() {
            store.give(device.ring, ring_size(device.capacity()));
        }
        (device.ring, device.count, device.oldest) = (Block::NONE, 0, 0);
        devices.set(store, index, device.bytes());
    }
}

/// The remembered numbers of device `index` whose tag is that of `cid`; the event of the right one has this `cid`.
pub(super) fn candidates<'a>(
    devices: &Devices,
    store: &'a Store,
    index: u32,
    cid: u128,
) -> impl Iterator<Item = u32> + use<'a> {
    let device = Device::read(devices.at(store, index));
    let capacity = device.capacity();
    let ring = if device.ring.is_none() { &[][..] } else { store.bytes(device.ring, ring_size(capacity)) };
    let (tags, numbers) = ring.split_at(ring.len() / (TAG_SIZE + NUMBER_SIZE) * TAG_SIZE);
    let tags = &tags.as_chunks::<TAG_SIZE>().0[..device.count as usize];
    let numbers = numbers.as_chunks::<NUMBER_SIZE>().0;
    let tag = tag_of(cid);
    // Sixteen tags are compared without a branch in between; nearly always none of them is it.
    tags.chunks(16)
        .enumerate()
        .filter(move |(_, tags)| tags.iter().fold(false, |any, &other| any | (other == tag)))
        .flat_map(move |(chunk, tags)| {
            tags.iter()
                .enumerate()
                .filter(move |&(_, &other)| other == tag)
                .map(move |(at, _)| chunk * 16 + at)
        })
        .map(move |place| u32::from_le_bytes(numbers[place]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_remembers_its_last_256_and_no_more_whatever_others_say() {
        let mut store = Store::new(1 << 20);
        let mut devices = Devices::EMPTY;
        for s in 1..=1000u32 {
            let device = u128::from(s % 3) + 1;
            let index = intern(&mut devices, &mut store, device).unwrap();
            remember(&devices, &mut store, index, u128::from(s) * 65_537, s);
        }
        for s in 1..=1000u32 {
            let index = find(&devices, &store, u128::from(s % 3) + 1).unwrap();
            let found = candidates(&devices, &store, index, u128::from(s) * 65_537).any(|number| number == s);
            assert_eq!(found, s > 1000 - 3 * REMEMBERED_PER_DEVICE, "{s}");
        }
        assert_eq!(find(&devices, &store, 9), None);
    }

    #[test]
    fn forgetting_gives_everything_back_but_the_devices() {
        let mut store = Store::new(1 << 20);
        let mut devices = Devices::EMPTY;
        let index = intern(&mut devices, &mut store, 5).unwrap();
        let before = store.used_bytes();
        for s in 1..=300 {
            remember(&devices, &mut store, index, u128::from(s), s);
        }
        forget_all(&devices, &mut store);
        assert_eq!(store.used_bytes(), before);
        assert_eq!(candidates(&devices, &store, index, 300).next(), None);
        assert_eq!(fingerprint(&devices, &store, index), 5);
    }
}
