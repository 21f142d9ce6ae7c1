//! Client-to-server masking, RFC 6455 §5.3: `transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)`.

/// Applies `mask` to `bytes` in place; its own inverse. `mask[0]` belongs to `bytes[0]`: for a payload that
/// comes in pieces the caller rotates the mask by what came before.
pub(crate) fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // Plain words in a plain loop: the compiler turns it into vector instructions.
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// The mask for what follows `count` bytes.
pub(crate) fn advanced(mut mask: [u8; 4], count: usize) -> [u8; 4] {
    mask.rotate_left(count % 4);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_unmasking_equals_the_definition_at_every_length_and_cut() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for size in 0..70usize {
            let plain: Vec<u8> = (0..size).map(|i| (i * 31 + 7) as u8).collect();
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            for cut in 0..=size {
                let mut bytes = plain.clone();
                let (front, back) = bytes.split_at_mut(cut);
                apply(front, mask);
                apply(back, advanced(mask, cut));
                assert_eq!(bytes, expected, "size {size}, cut {cut}");
            }
        }
    }
}
