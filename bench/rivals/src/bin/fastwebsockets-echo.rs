//! fastwebsockets behind hyper, on a runtime of one thread, as its own example does it.

use fastwebsockets::{FragmentCollector, OpCode, upgrade};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use rivals::Args;
use rivals::account::{self, MESSAGES};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

async fn serve(upgraded: upgrade::UpgradeFut) -> Result<(), fastwebsockets::WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                account::count(&MESSAGES, 1);
                socket.write_frame(frame).await?;
            }
            _ => {}
        }
    }
}

async fn answer(
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, fastwebsockets::WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    tokio::task::spawn_local(async move {
        // A peer that goes away is no fault of an echo.
        let _ = serve(upgraded).await;
    });
    Ok(response)
}

fn main() {
    rivals::on_tokio(&Args::take(), |stream| async move {
        let io = hyper_util::rt::TokioIo::new(stream);
        // A peer that goes away is no fault of an echo.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service_fn(answer))
            .with_upgrades()
            .await;
    });
}
