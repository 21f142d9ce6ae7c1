use super::*;
use crate::id::{Entropy, Slot};

fn keys() -> Vec<SigningKey> {
    vec![SigningKey { id: 12, secret: [0x11; 32] }, SigningKey { id: 3, secret: [0x22; 32] }]
}

fn visitor() -> VisitorToken {
    let mut entropy = Entropy::new([5; 32]);
    let slot = Slot::new(77).unwrap();
    VisitorToken {
        site: SiteId::mint(slot, &mut entropy),
        inbox: InboxId::mint(slot, &mut entropy),
        visitor: VisitorId::mint(slot, &mut entropy),
        issued_at_s: 1_760_000_000,
    }
}

fn ticket() -> Ticket {
    let agent = AgentId::mint(Slot::new(1).unwrap(), &mut Entropy::new([6; 32]));
    Ticket { agent, role: Role::Admin, session_epoch: 4, expires_at_s: 1_000 }
}

fn visitor_text(keys: &[SigningKey], token: &VisitorToken) -> String {
    let mut out = Vec::new();
    sign_visitor(keys, token, &mut out);
    String::from_utf8(out).unwrap()
}

fn ticket_text(keys: &[SigningKey], ticket: &Ticket) -> String {
    let mut out = Vec::new();
    sign_ticket(keys, ticket, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_was_signed_reads_back() {
    assert_eq!(verify_visitor(&keys(), &visitor_text(&keys(), &visitor())), Ok(visitor()));
    let text = ticket_text(&keys(), &ticket());
    assert!(text.starts_with("v1.12."), "{text}");
    assert_eq!(verify_ticket(&keys(), &text, 999), Ok(ticket()));
}

#[test]
fn signing_appends_and_leaves_what_was_there() {
    let mut out = b"before ".to_vec();
    sign_ticket(&keys(), &ticket(), &mut out);
    assert_eq!(out, format!("before {}", ticket_text(&keys(), &ticket())).into_bytes());
}

#[test]
fn the_longest_token_fits_what_readers_accept() {
    let key = [SigningKey { id: u32::MAX, secret: [1; 32] }];
    let text = visitor_text(&key, &visitor());
    assert!(text.len() <= MAX_TOKEN_SIZE);
    assert_eq!(verify_visitor(&key, &text), Ok(visitor()));
}

#[test]
fn a_ticket_ends_at_its_second() {
    let text = ticket_text(&keys(), &ticket());
    assert_eq!(verify_ticket(&keys(), &text, 1_000), Err(TokenError::Expired));
    assert_eq!(verify_ticket(&keys(), &text, u64::MAX), Err(TokenError::Expired));
}

#[test]
fn an_older_key_still_verifies_and_a_removed_one_does_not() {
    let old = &keys()[1..];
    let text = visitor_text(old, &visitor());
    assert_eq!(verify_visitor(&keys(), &text), Ok(visitor()));
    assert_eq!(verify_visitor(&keys()[..1], &text), Err(TokenError::UnknownKey));
    assert_eq!(verify_visitor(&[], &text), Err(TokenError::UnknownKey));
}

#[test]
fn another_secret_under_the_same_key_id_is_a_forgery() {
    let mut theirs = keys();
    theirs[0].secret[31] ^= 1;
    assert_eq!(verify_visitor(&keys(), &visitor_text(&theirs, &visitor())), Err(TokenError::Forged));
}

#[test]
fn a_key_id_cannot_be_exchanged_even_for_a_key_of_the_same_secret() {
    let mut twins = keys();
    twins[1].secret = twins[0].secret;
    let text = visitor_text(&twins, &visitor()).replacen("v1.12.", "v1.3.", 1);
    assert_eq!(verify_visitor(&twins, &text), Err(TokenError::Forged));
}

#[test]
fn the_payload_of_another_inbox_under_this_mac_is_a_forgery() {
    let mut other = visitor();
    other.inbox = InboxId::mint(Slot::new(78).unwrap(), &mut Entropy::new([9; 32]));
    let mine = visitor_text(&keys(), &visitor());
    let theirs = visitor_text(&keys(), &other);
    let (payload, _) = theirs.rsplit_once('.').unwrap();
    let (_, mac) = mine.rsplit_once('.').unwrap();
    assert_eq!(verify_visitor(&keys(), &format!("{payload}.{mac}")), Err(TokenError::Forged));
}

#[test]
fn one_kind_is_not_taken_for_the_other() {
    assert_eq!(verify_ticket(&keys(), &visitor_text(&keys(), &visitor()), 0), Err(TokenError::WrongKind));
    assert_eq!(verify_visitor(&keys(), &ticket_text(&keys(), &ticket())), Err(TokenError::WrongKind));
}

#[test]
fn every_truncation_is_refused() {
    let text = visitor_text(&keys(), &visitor());
    for length in 0..text.len() {
        assert!(verify_visitor(&keys(), &text[..length]).is_err(), "{length}");
        assert!(verify_visitor(&keys(), &text[text.len() - length..]).is_err(), "from {length}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for text in [visitor_text(&keys(), &visitor()), ticket_text(&keys(), &ticket())] {
        let mut tried = 0;
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(flipped) = String::from_utf8(bytes) else {
                continue; // The socket has refused it as bad UTF-8 before.
            };
            tried += 1;
            assert!(verify_visitor(&keys(), &flipped).is_err(), "{flipped}");
            assert!(verify_ticket(&keys(), &flipped, 0).is_err(), "{flipped}");
        }
        assert_eq!(tried, text.len() * 7, "all but the top bits");
    }
}

#[test]
fn stripped_padded_and_rewritten_texts_are_refused() {
    let text = visitor_text(&keys(), &visitor());
    let (signed, mac) = text.rsplit_once('.').unwrap();
    for strange in [
        String::new(),
        "v1".into(),
        "v1...".into(),
        "....".into(),
        signed.into(),
        format!("{signed}."),
        format!("{signed}.{mac}="),
        format!("{signed}.{mac}.{mac}"),
        format!(" {text}"),
        format!("{text}\n"),
        text.replacen("v1", "v2", 1),
        text.replacen("v1.12.", "v1.012.", 1),
        text.replacen("v1.12.", "v1.+12.", 1),
        text.replacen("v1.12.", "v1..", 1),
        text.replacen("v1.12.", "v1.4294967308.", 1),
        text.replacen("v1.12.", "v1.none.", 1),
        "v1.12.AA".to_owned() + &"A".repeat(100_000),
    ] {
        assert!(verify_visitor(&keys(), &strange).is_err(), "{strange}");
        assert!(verify_ticket(&keys(), &strange, 0).is_err(), "{strange}");
    }
}

#[test]
fn a_signed_payload_that_is_no_token_of_ours_is_refused() {
    for payload in [&[][..], &[VISITOR_KIND], &[TICKET_KIND; 29], &[VISITOR_KIND; 64], &[9; 57]] {
        let mut out = Vec::new();
        sign(&keys(), payload, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(verify_visitor(&keys(), &text).is_err());
        assert!(verify_ticket(&keys(), &text, 0).is_err());
    }
    let mut out = Vec::new();
    let mut payload = [0; TICKET_SIZE];
    payload[0] = TICKET_KIND;
    payload[1..17].copy_from_slice(&ticket().agent.bits().to_le_bytes());
    payload[17] = 7;
    sign(&keys(), &payload, &mut out);
    assert_eq!(verify_ticket(&keys(), core::str::from_utf8(&out).unwrap(), 0), Err(TokenError::Malformed));
}

/// HMAC-SHA-256 computed by other software over the same bytes (Python's `hmac`).
#[test]
fn the_text_of_a_token_has_not_changed() {
    let text = "v1.12.Auv1fgW4ZwQ_P1uOa-z5FQABBAAAAOgDAAAAAAAA.GdQOurHbInzWxEKeFDXEBHHn9M0Hbr-qsGutPoW8puw";
    assert_eq!(ticket_text(&keys(), &ticket()), text);
}
