//! What people show to be admitted: a visitor's token and an agent's ticket.
//!
//! ```text
//! v1 . key id . payload . mac
//!      decimal  base64url HMAC-SHA-256 over "v1.<key id>.<payload>", base64url      (RFC 4648 section 5, no padding)
//!
//! payload of a visitor   1 | site 16 | inbox 16 | visitor 16 | issued at (s) 8
//! payload of a ticket    2 | agent 16 | role 1 | session epoch 4 | expires at (s) 8
//! ```
//! Little-endian. The first byte keeps the two kinds apart; the key id is under the mac too. There is exactly one text for a value and a key:
//! leading zeros and stray bits in the base64 are refused.

use crate::id::{AgentId, InboxId, SiteId, VisitorId};
use crate::settings::{Role, SigningKey};
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const VISITOR_KIND: u8 = 1;
const TICKET_KIND: u8 = 2;
const VISITOR_SIZE: usize = 1 + 16 + 16 + 16 + 8;
const TICKET_SIZE: usize = 1 + 16 + 1 + 4 + 8;
const MAC_SIZE: usize = 32;
const MAC_TEXT_SIZE: usize = 43;
const LARGEST_PAYLOAD: usize = 64;
const PREFIX: &str = "v1.";

/// Longest text of a token in bytes; anything longer is malformed.
pub const MAX_TOKEN_SIZE: usize =
    PREFIX.len() + 10 + 1 + (LARGEST_PAYLOAD * 8).div_ceil(6) + 1 + MAC_TEXT_SIZE;
/// How long a ticket is honoured, in seconds: 12 hours.
pub const TICKET_LIFE_S: u64 = 12 * 60 * 60;

const _: () = assert!(
    VISITOR_SIZE <= LARGEST_PAYLOAD && TICKET_SIZE <= LARGEST_PAYLOAD,
    "payloads are decoded on the stack"
);

/// Says who an anonymous visitor is, for as long as its key lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VisitorToken {
    /// The site that made him.
    pub site: SiteId,
    /// The inbox he came through; the token is worth nothing in another.
    pub inbox: InboxId,
    /// Who he is.
    pub visitor: VisitorId,
    /// When, in seconds since 1970.
    pub issued_at_s: u64,
}

/// Admits an agent until it expires, as often as he likes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// Who logged in.
    pub agent: AgentId,
    /// What he might do at that time.
    pub role: Role,
    /// His epoch at that time; worth nothing once the epoch in Settings is higher.
    pub session_epoch: u32,
    /// First second at which it is no longer honoured, since 1970.
    pub expires_at_s: u64,
}

/// Why a token was not accepted; always the bearer's fault. `Expired` is close code 4202, all others are 4201.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// Not a token at all.
    Malformed,
    /// Signed with a key that is not, or no longer, in Settings.
    UnknownKey,
    /// The mac does not match.
    Forged,
    /// A ticket where a visitor's token is needed, or the other way round.
    WrongKind,
    /// Its time is over.
    Expired,
}

/// Appends the text of a visitor's token, signed with the first key. At most [`MAX_TOKEN_SIZE`] bytes.
///
/// # Panics
/// If there is no key.
pub fn sign_visitor(keys: &[SigningKey], token: &VisitorToken, out: &mut Vec<u8>) {
    let mut payload = [0u8; VISITOR_SIZE];
    payload[0] = VISITOR_KIND;
    payload[1..17].copy_from_slice(&token.site.bits().to_le_bytes());
    payload[17..33].copy_from_slice(&token.inbox.bits().to_le_bytes());
    payload[33..49].copy_from_slice(&token.visitor.bits().to_le_bytes());
    payload[49..57].copy_from_slice(&token.issued_at_s.to_le_bytes());
    sign(keys, &payload, out);
}

/// Appends the text of a ticket, signed with the first key. At most [`MAX_TOKEN_SIZE`] bytes.
///
/// # Panics
/// If there is no key.
pub fn sign_ticket(keys: &[SigningKey], ticket: &Ticket, out: &mut Vec<u8>) {
    let mut payload = [0u8; TICKET_SIZE];
    payload[0] = TICKET_KIND;
    payload[1..17].copy_from_slice(&ticket.agent.bits().to_le_bytes());
    payload[17] = match ticket.role {
        Role::Agent => 0,
        Role::Admin => 1,
    };
    payload[18..22].copy_from_slice(&ticket.session_epoch.to_le_bytes());
    payload[22..30].copy_from_slice(&ticket.expires_at_s.to_le_bytes());
    sign(keys, &payload, out);
}

/// Reads a visitor's token. The caller compares `site` and `inbox` with where the socket came in.
pub fn verify_visitor(keys: &[SigningKey], text: &str) -> Result<VisitorToken, TokenError> {
    let mut room = [0u8; LARGEST_PAYLOAD];
    let payload = verify(keys, text, &mut room)?;
    let payload: &[u8; VISITOR_SIZE] = of_kind(payload, VISITOR_KIND)?;
    Ok(VisitorToken {
        site: SiteId::from_bits(u128_at(payload, 1)).ok_or(TokenError::Malformed)?,
        inbox: InboxId::from_bits(u128_at(payload, 17)).ok_or(TokenError::Malformed)?,
        visitor: VisitorId::from_bits(u128_at(payload, 33)).ok_or(TokenError::Malformed)?,
        issued_at_s: u64_at(payload, 49),
    })
}

/// Reads a ticket at `now_s` seconds since 1970. The caller compares `session_epoch` with the agent's in Settings.
pub fn verify_ticket(keys: &[SigningKey], text: &str, now_s: u64) -> Result<Ticket, TokenError> {
    let mut room = [0u8; LARGEST_PAYLOAD];
    let payload = verify(keys, text, &mut room)?;
    let payload: &[u8; TICKET_SIZE] = of_kind(payload, TICKET_KIND)?;
    let ticket = Ticket {
        agent: AgentId::from_bits(u128_at(payload, 1)).ok_or(TokenError::Malformed)?,
        role: match payload[17] {
            0 => Role::Agent,
            1 => Role::Admin,
            _ => return Err(TokenError::Malformed),
        },
        session_epoch: u32::from_le_bytes(*payload[18..].first_chunk().expect("payload is 30 bytes")),
        expires_at_s: u64_at(payload, 22),
    };
    if now_s >= ticket.expires_at_s {
        return Err(TokenError::Expired);
    }
    Ok(ticket)
}

fn sign(keys: &[SigningKey], payload: &[u8], out: &mut Vec<u8>) {
    let key = keys.first().expect("settings have at least one key");
    let start = out.len();
    out.extend_from_slice(PREFIX.as_bytes());
    crate::encode::number(out, u64::from(key.id));
    out.push(b'.');
    append_base64(out, payload);
    let mac = keyed(key).chain_update(&out[start..]).finalize().into_bytes();
    out.push(b'.');
    append_base64(out, &mac);
    assert!(out.len() - start <= MAX_TOKEN_SIZE, "a token is no longer than readers accept");
}

/// Checks form, key and mac, in this order; the payload is looked at only after the mac.
fn verify<'r>(
    keys: &[SigningKey],
    text: &str,
    room: &'r mut [u8; LARGEST_PAYLOAD],
) -> Result<&'r [u8], TokenError> {
    if text.len() > MAX_TOKEN_SIZE {
        return Err(TokenError::Malformed);
    }
    let (signed, mac_text) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let rest = signed.strip_prefix(PREFIX).ok_or(TokenError::Malformed)?;
    let (key_id, payload_text) = rest.split_once('.').ok_or(TokenError::Malformed)?;
    let key_id = canonical_number(key_id).ok_or(TokenError::Malformed)?;
    let mut mac = [0u8; MAC_SIZE];
    if mac_text.len() != MAC_TEXT_SIZE {
        return Err(TokenError::Malformed);
    }
    BASE64URL_NOPAD.decode_mut(mac_text.as_bytes(), &mut mac).map_err(|_| TokenError::Malformed)?;
    let size = BASE64URL_NOPAD.decode_len(payload_text.len()).map_err(|_| TokenError::Malformed)?;
    let payload = room.get_mut(..size).ok_or(TokenError::Malformed)?;
    BASE64URL_NOPAD.decode_mut(payload_text.as_bytes(), payload).map_err(|_| TokenError::Malformed)?;
    let key = keys.iter().find(|key| key.id == key_id).ok_or(TokenError::UnknownKey)?;
    // `verify_slice` compares in constant time.
    keyed(key).chain_update(signed.as_bytes()).verify_slice(&mac).map_err(|_| TokenError::Forged)?;
    Ok(payload)
}

fn keyed(key: &SigningKey) -> Hmac<Sha256> {
    Hmac::new_from_slice(&key.secret).expect("HMAC takes a key of any length")
}

fn of_kind<const N: usize>(payload: &[u8], kind: u8) -> Result<&[u8; N], TokenError> {
    match payload.first() {
        Some(&found) if found == kind => payload.try_into().map_err(|_| TokenError::Malformed),
        Some(_) => Err(TokenError::WrongKind),
        None => Err(TokenError::Malformed),
    }
}

fn append_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + BASE64URL_NOPAD.encode_len(bytes.len()), 0);
    BASE64URL_NOPAD.encode_mut(bytes, &mut out[start..]);
}

/// A number below 2³² in decimal without sign or leading zeros.
fn canonical_number(text: &str) -> Option<u32> {
    let leading = text.as_bytes().first()?;
    if !text.bytes().all(|digit| digit.is_ascii_digit()) || (*leading == b'0' && text.len() > 1) {
        return None;
    }
    text.parse().ok()
}

fn u128_at(payload: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(*payload[at..].first_chunk().expect("offsets are constants within the payload"))
}

fn u64_at(payload: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*payload[at..].first_chunk().expect("offsets are constants within the payload"))
}

#[cfg(test)]
mod tests;
