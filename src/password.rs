//! Passwords: Argon2id with 19 MiB, two passes, one lane (OWASP's first recommendation for it).

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::store::{StoreError, random};

/// Shortest password that is accepted, in characters.
pub(crate) const CHARACTERS_MIN: usize = 8;
/// Longest password that is accepted, in bytes; a longer one costs time before it is refused.
pub(crate) const BYTES_MAX: usize = 256;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

fn argon2() -> Argon2<'static> {
    #[cfg(test)]
    tests::HASHED.set(tests::HASHED.get() + 1);
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The hash with a salt of its own, in PHC form. Takes about a twentieth of a second of a core.
pub(crate) fn hash(password: &str) -> Result<String, StoreError> {
    let salt: [u8; 16] = random()?;
    let hash = argon2().hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hash.expect("password and salt are within Argon2's bounds").to_string())
}

/// Whether the password is the one. Without a hash (no such account) the same work is done, and the answer is no.
pub(crate) fn verify(password: &str, hash: Option<&str>) -> bool {
    match hash.map(PasswordHash::new) {
        Some(Ok(hash)) => argon2().verify_password(password.as_bytes(), &hash).is_ok(),
        Some(Err(error)) => {
            log::error!("control.db holds a password hash that cannot be read: {error}");
            false
        }
        None => {
            let mut out = [0u8; 32];
            let done = argon2().hash_password_into(password.as_bytes(), b"nobody has this account", &mut out);
            done.expect("password and salt are within Argon2's bounds");
            false
        }
    }
}

/// A password of 100 random bits that can be read aloud: four groups of five, without letters that look alike.
pub(crate) fn make() -> Result<String, StoreError> {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";
    let bytes: [u8; 20] = random()?;
    let letters: Vec<char> = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect();
    Ok(letters.chunks(5).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}

/// Whether a password somebody chose may be used, or why not.
pub(crate) fn acceptable(password: &str) -> Result<(), &'static str> {
    if password.chars().count() < CHARACTERS_MIN {
        return Err("must have at least 8 characters; 15 or more are advised");
    }
    if password.len() > BYTES_MAX {
        return Err("must have at most 256 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        /// Hashes computed on this thread.
        pub(super) static HASHED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// Time would tell which accounts exist. Counted, not timed.
    #[test]
    fn without_an_account_the_same_work_is_done() {
        let one = hash("correct horse").unwrap();
        for account in [Some(one.as_str()), None] {
            let before = HASHED.get();
            assert!(!verify("wrong", account));
            assert_eq!(HASHED.get() - before, 1, "{account:?}");
        }
    }

    #[test]
    fn the_hash_is_argon2id_with_its_parameters_and_a_salt_of_its_own() {
        let (one, two) = (hash("correct horse").unwrap(), hash("correct horse").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, two);
        assert!(verify("correct horse", Some(&one)));
        assert!(!verify("correct horsf", Some(&one)));
        assert!(!verify("correct horse", None));
        assert!(!verify("x", Some("plain text")));
    }

    #[test]
    fn a_made_password_differs_each_time_and_is_acceptable() {
        let (one, two) = (make().unwrap(), make().unwrap());
        assert_ne!(one, two);
        assert_eq!((one.len(), acceptable(&one)), (23, Ok(())));
        assert!(acceptable("short").is_err() && acceptable(&"x".repeat(300)).is_err());
    }
}
