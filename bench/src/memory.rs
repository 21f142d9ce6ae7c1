//! What an idle connection costs the server in user memory.

use std::path::Path;
use std::time::Duration;

use crate::client::Client;
use crate::server::Server;
use crate::socket;

/// More than a shard has receive buffers.
const WARM_MESSAGES: u32 = 20_000;

pub(crate) fn run(bin: &Path, dir: &Path, connections: u32, shards: u16) -> Result<(), String> {
    println!(
        "user memory (RSS) of an idle connection, {connections} of each kind, {shards} shard(s), loopback"
    );
    for (name, kind) in
        [("echo path", Kind::Echo), ("logged in", Kind::LoggedIn), ("ten messages", Kind::Talked)]
    {
        let server = Server::start(bin, dir, shards, "memory", &["--echo-path", "/echo"])?;
        let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
            .enable_timer()
            .build()
            .map_err(|error| error.to_string())?;
        let bytes = runtime.block_on(hold(&server, connections, kind))?;
        println!("{name:<14} {:>8.1} bytes", bytes as f64 / f64::from(connections));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Echo,
    LoggedIn,
    Talked,
}

enum Held {
    Socket(#[allow(dead_code, reason = "held, not read")] (socket::Writer, socket::Reader)),
    Client(#[allow(dead_code, reason = "held, not read")] Box<Client>),
}

async fn hold(server: &Server, connections: u32, kind: Kind) -> Result<u64, String> {
    let mut held = Vec::new();
    // What the server keeps for everybody is touched first: its ring of receive buffers by many messages, the rest by the first connections.
    let (mut writer, mut reader) = socket::open(server.address, "/echo", "").await?;
    for _ in 0..WARM_MESSAGES {
        writer.text("hello").await?;
        reader.text().await?;
    }
    held.push(Held::Socket((writer, reader)));
    let warm = connections / 10;
    let mut before = 0;
    for number in 0..connections + warm {
        if number == warm {
            monoio::time::sleep(Duration::from_secs(2)).await;
            before = server.resident();
        }
        if kind == Kind::Echo {
            let (mut writer, mut reader) = socket::open(server.address, "/echo", "").await?;
            writer.text("hello").await?;
            reader.text().await?;
            held.push(Held::Socket((writer, reader)));
            continue;
        }
        let mut client = Client::visitor(server.address, &server.inbox, number).await?;
        if kind == Kind::Talked {
            let c = client.start(number).await?;
            for message in 0..9 {
                let text = format!(
                    r#"{{"id":5,"op":"send","d":{{"c":"{c}","cid":"bench-{number:08}-{message:08}","type":"text","body":"It has been raining here since the morning, and the parcel is not there."}}}}"#
                );
                client.writer.text(&text).await?;
                client.answer(5).await?;
            }
            client.writer.text(&format!(r#"{{"op":"ack","d":{{"p":{}}}}}"#, client.told)).await?;
        }
        held.push(Held::Client(Box::new(client)));
    }
    monoio::time::sleep(Duration::from_secs(3)).await;
    Ok(server.resident().saturating_sub(before))
}
