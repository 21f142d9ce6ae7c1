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
    let args = Args::take();
    let listener = args.listener();
    listener.set_nonblocking(true).expect("a listener can be made not to wait");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime can be made");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listener");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::task::spawn_local(async move {
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service_fn(answer))
                    .with_upgrades()
                    .await;
            });
        }
    });
}
