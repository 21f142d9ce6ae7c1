//! monoio on io_uring: a task and a buffer for each connection, frames turned round in it.

use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use rivals::account::{self, MESSAGES};
use rivals::{Args, ws};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const READ_SIZE: usize = 2048;

fn main() {
    let args = Args::take();
    let listener = args.listener();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(4096)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async move {
        let listener = monoio::net::TcpListener::from_std(listener).expect("it is a listener");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            monoio::spawn(serve(stream));
        }
    });
}

async fn serve(mut stream: monoio::net::TcpStream) {
    let mut unfinished = ws::Unfinished::default();
    let mut buffer = Vec::with_capacity(READ_SIZE);
    loop {
        buffer.clear();
        let (result, back) = stream.read(buffer).await;
        buffer = back;
        let Ok(1..) = result else { return };
        let (messages, closed);
        if unfinished.is_clear() {
            let done = ws::echo(&mut buffer);
            unfinished.keep(&buffer[done.consumed..]);
            buffer.truncate(done.produced);
            (messages, closed) = (done.messages, done.closed);
        } else {
            let answer;
            (answer, messages, closed) = unfinished.add(&buffer);
            buffer.clear();
            buffer.extend_from_slice(&answer);
        }
        account::count(&MESSAGES, messages);
        if !buffer.is_empty() {
            let (result, back) = stream.write_all(buffer).await;
            buffer = back;
            if result.is_err() {
                return;
            }
        }
        if closed {
            return;
        }
    }
}
