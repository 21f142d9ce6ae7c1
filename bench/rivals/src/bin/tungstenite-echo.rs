//! tokio-tungstenite on a runtime of one thread, with a write buffer that is flushed with every message.

use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use rivals::Args;
use rivals::account::{self, MESSAGES};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args = Args::take();
    let listener = args.listener();
    listener.set_nonblocking(true).expect("a listener can be made not to wait");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime can be made");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listener");
        // Its default reads into 128 KiB for each connection.
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::task::spawn_local(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await
                else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if !(message.is_text() || message.is_binary()) {
                        continue;
                    }
                    account::count(&MESSAGES, 1);
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}
