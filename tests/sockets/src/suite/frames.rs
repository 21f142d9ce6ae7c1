//! RFC 6455 and the envelope, from the side of who breaks them.

use std::time::{Duration, Instant};

use crash::ws::{Frame, Upgrade, Ws, encode, new_key};
use serde_json::json;

use super::chat::{Chat, ensure, open, send, started};
use crate::peer::Peer;
use crate::site::Site;

/// For a close that must come at once.
const SOON: Duration = Duration::from_secs(3);

pub(crate) async fn bad_frames(site: &Site) -> Result<String, String> {
    let mask = Some([1, 2, 3, 4]);
    let text = |bytes: &[u8]| encode(true, 1, bytes, mask);
    let mut rsv = encode(true, 1, b"{}", mask);
    rsv[0] |= 0x40;
    let mut huge = encode(true, 1, &[], mask);
    huge[1] = 0x80 | 127;
    huge.splice(2..2, u64::MAX.to_be_bytes().map(|byte| byte & 0x7f));
    let mut oversize = encode(true, 1, &[], mask);
    oversize[1] = 0x80 | 127;
    oversize.splice(2..2, 65_537u64.to_be_bytes());
    let mut fragments = encode(false, 1, b"a", mask);
    for _ in 0..1_100 {
        fragments.extend(encode(false, 0, b"a", mask));
    }
    let mut grown = encode(false, 1, &[b'a'; 40_000], mask);
    grown.extend(encode(true, 0, &[b'a'; 30_000], mask));
    let mut split = encode(false, 1, b"{\"op\":\"\xe4", mask);
    split.extend(encode(true, 0, b"(\"}", mask));
    let mut long_ping = encode(true, 9, &[], mask);
    long_ping[1] = 0x80 | 126;
    long_ping.splice(2..2, 126u16.to_be_bytes());
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", encode(true, 1, b"{}", None), 1002),
        ("reserved bit", rsv, 1002),
        ("reserved opcode", encode(true, 3, b"", mask), 1002),
        ("reserved control opcode", encode(true, 11, b"", mask), 1002),
        ("fragmented ping", encode(false, 9, b"", mask), 1002),
        ("long ping", long_ping, 1002),
        ("continuation of nothing", encode(true, 0, b"x", mask), 1002),
        ("message within a message", [encode(false, 1, b"a", mask), text(b"b")].concat(), 1002),
        ("close of one byte", encode(true, 8, b"\x03", mask), 1002),
        ("close with code 1005", encode(true, 8, &1005u16.to_be_bytes(), mask), 1002),
        ("close with code 999", encode(true, 8, &999u16.to_be_bytes(), mask), 1002),
        ("not UTF-8", text(b"{\"op\":\"\xff\"}"), 1007),
        ("overlong UTF-8", text(b"\xc0\xaf"), 1007),
        ("a surrogate", text(b"\xed\xa0\x80"), 1007),
        ("UTF-8 broken between fragments", split, 1007),
        ("a close reason that is not UTF-8", encode(true, 8, b"\x03\xe8\xff", mask), 1007),
        ("larger than a message may be", text(&[b'a'; 65_537]), 1009),
        ("header of a message too large", oversize, 1009),
        ("header of 2^63 bytes", huge, 1009),
        ("too many fragments", fragments, 1009),
        ("fragments that grow too large", grown, 1009),
        ("binary", encode(true, 2, b"{}", mask), 1003),
    ];
    let mut canary = site.visitor().await?;
    let c = started(site, &mut canary, "I notice nothing").await?;
    for (what, bytes, wanted) in cases {
        for authenticated in [false, true] {
            let mut peer = if authenticated {
                site.visitor().await?
            } else {
                Peer::knock(site, &site.visitor_path()).await?
            };
            peer.ws.raw(&bytes);
            let (code, _) = peer.closed(SOON).await.map_err(|error| format!("{what}: {error}"))?;
            ensure(code == wanted, || format!("{what}: {code} and not {wanted}"))?;
        }
    }
    send(site, &mut canary, &c, "Really nothing").await?;
    // What is allowed and rare.
    let mut peer = site.visitor().await?;
    peer.ws.raw(&encode(true, 8, &[], mask));
    let (code, _) = peer.closed(SOON).await?;
    ensure(code == 1005, || format!("a close without a code is answered with {code}"))?;
    Ok(String::new())
}

pub(crate) async fn nonsense(site: &Site) -> Result<String, String> {
    let mut peer = site.visitor().await?;
    // Twice is forgiven.
    peer.ws.text("what is this");
    let id = peer.say("start", json!({ "cid": site.hex() }));
    peer.ws.text("{\"id\":9}");
    peer.reply(id).await.map_err(|error| error.to_string())?;
    let err = peer.reply(9).await.err().ok_or("an envelope without op was answered")?;
    ensure(err["code"] == "bad_request", || err.to_string())?;
    peer.ws.text("[1,2]");
    let (code, _) = peer.closed(SOON).await?;
    ensure(code == 4300, || format!("nonsense three times: {code}"))?;
    // A reply that is asked for comes even if there is no JSON behind the id.
    let mut peer = site.visitor().await?;
    peer.ws.text("{\"id\":77,\"op\":\"send\",\"d\":{");
    let err = peer.reply(77).await.err().ok_or("broken JSON was answered")?;
    ensure(err["code"] == "bad_request", || err.to_string())?;
    // An unknown operation is no nonsense.
    for _ in 0..5 {
        let code = peer.refused("dance", json!({})).await?;
        ensure(code == "bad_request", || code)?;
    }
    Ok(String::new())
}

pub(crate) async fn byte_by_byte(site: &Site) -> Result<String, String> {
    let mut chance = site.chance();
    let stream = tokio::net::TcpStream::connect(site.listen).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut ws = Ws::over(stream, &mut chance);
    let key = new_key(&mut chance);
    let upgrade = Upgrade::to(site.visitor_path());
    let drip = async |ws: &mut Ws, bytes: &[u8]| {
        for byte in bytes {
            ws.raw(&[*byte]);
            ws.flush().await.map_err(|error| error.to_string())?;
            tokio::task::yield_now().await;
        }
        Ok::<(), String>(())
    };
    drip(&mut ws, upgrade.request(site.listen, &key).as_bytes()).await?;
    ws.accepted(&key, upgrade.protocol).await.map_err(|error| error.to_string())?;
    let mut peer = Peer::greeted(ws).await?;
    let auth = json!({ "id": 1, "op": "auth", "d": { "device": site.hex() } });
    let start = json!({ "id": 2, "op": "start", "d": { "cid": site.hex(), "first": { "cid": site.hex(), "type": "text", "body": "sl🐌w" } } });
    let frame = encode(true, 1, format!("{auth}\n{start}").as_bytes(), Some([9, 8, 7, 6]));
    drip(&mut peer.ws, &frame).await?;
    peer.reply(1).await.map_err(|error| error.to_string())?;
    let told = peer.reply(2).await.map_err(|error| error.to_string())?;
    let c = told["c"].as_str().ok_or("start without c")?.to_owned();
    peer.tell("sync", json!({ "cursors": [{ "c": c, "s": 0 }] }));
    ensure(peer.event(&c).await?["d"]["body"] == "sl🐌w", || "it is told differently".to_owned())?;
    Ok(String::new())
}

pub(crate) async fn fragments_and_pings(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let text = json!({ "id": 500, "op": "send", "d": { "c": c, "cid": site.hex(), "type": "text", "body": "in π pieces 🧩" } }).to_string();
    let bytes = text.as_bytes();
    let count = bytes.len();
    for (place, byte) in bytes.iter().enumerate() {
        visitor.ws.frame(place + 1 == count, if place == 0 { 1 } else { 0 }, &[*byte]);
        if place % 10 == 0 {
            visitor.ws.frame(true, 9, format!("ping {place}").as_bytes());
        }
    }
    visitor.reply(500).await.map_err(|error| error.to_string())?;
    ensure(agent.event(&c).await?["d"]["body"] == "in π pieces 🧩", || {
        "it is told differently".to_owned()
    })?;
    // Empty fragments count and say nothing.
    visitor.ws.frame(false, 1, b"");
    visitor.ws.frame(false, 0, b"{}");
    visitor.ws.frame(true, 0, b"");
    let mut pongs = 0;
    visitor.ws.frame(true, 9, &[7; 125]);
    let until = Instant::now() + SOON;
    while Instant::now() < until && pongs == 0 {
        match visitor.ws.within(SOON).await.map_err(|error| error.to_string())? {
            Frame::Pong(payload) if payload == [7; 125] => pongs += 1,
            Frame::Close(code, reason) => return Err(format!("closed {code} {reason}")),
            _ => {}
        }
    }
    ensure(pongs == 1, || "a long ping is not answered".to_owned())?;
    send(site, &mut visitor, &c, "And on").await?;
    Ok(String::new())
}

pub(crate) async fn many_envelopes(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let lines: Vec<String> = (0..200)
        .map(|n| json!({ "id": 1_000 + n, "op": "send", "d": { "c": c, "cid": site.hex(), "type": "text", "body": format!("{n}") } }).to_string())
        .collect();
    visitor.ws.text(&lines.join("\n"));
    // And frames without a pause, in one write.
    let burst: Vec<u8> = (0..100)
        .flat_map(|n| {
            let line = json!({ "id": 2_000 + n, "op": "send", "d": { "c": c, "cid": site.hex(), "type": "text", "body": format!("{}", 200 + n) } });
            encode(true, 1, line.to_string().as_bytes(), Some([5, 5, 5, n as u8]))
        })
        .collect();
    visitor.ws.raw(&burst);
    for (n, id) in (1_000..1_200).chain(2_000..2_100).enumerate() {
        let told = visitor.reply(id).await.map_err(|error| format!("{id}: {error}"))?;
        ensure(told["s"] == n + 3, || format!("{id}: {told}"))?;
    }
    for n in 0..300 {
        let event = agent.event(&c).await?;
        ensure(event["d"]["body"] == format!("{n}") && event["s"] == n + 3, || format!("{n}: {event}"))?;
        if n % 30 == 0 {
            let p = agent.p;
            agent.tell("ack", json!({ "p": p }));
        }
    }
    // Empty lines between envelopes hurt nobody who counts heartbeats.
    visitor.ws.text("{}\n{}");
    send(site, &mut visitor, &c, "Done").await?;
    Ok(String::new())
}

pub(crate) async fn echo(site: &Site) -> Result<String, String> {
    let upgrade = Upgrade { path: "/echo".to_owned(), protocol: None, more: String::new() };
    let mut ws =
        Ws::connect(site.listen, &upgrade, &mut site.chance()).await.map_err(|error| error.to_string())?;
    let next = async |ws: &mut Ws| ws.within(SOON).await.map_err(|error| error.to_string());
    for size in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let text = "x".repeat(size);
        ws.text(&text);
        ensure(next(&mut ws).await? == Frame::Text(text), || {
            format!("{size} characters come back otherwise")
        })?;
        ws.frame(true, 2, &vec![0xfe; size]);
        ensure(next(&mut ws).await? == Frame::Binary(vec![0xfe; size]), || {
            format!("{size} bytes come back otherwise")
        })?;
    }
    ws.text(&"x".repeat(65_537));
    let end = next(&mut ws).await?;
    ensure(matches!(end, Frame::Close(1009, _)), || format!("{end:?}"))?;
    Ok(String::new())
}
