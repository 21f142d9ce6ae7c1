//! tokio-tungstenite on a runtime of one thread, with a write buffer that is flushed with every message.

use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use rivals::Args;
use rivals::account::{self, MESSAGES};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Its default reads into 128 KiB for each connection.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    rivals::on_tokio(&Args::take(), move |stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else {
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
