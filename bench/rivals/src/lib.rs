//! What floors and rivals share: the command line, the few lines of RFC 6455 that an echo needs, and the account at the end.

pub mod account;
pub mod ring;
pub mod ws;

use std::net::{SocketAddr, TcpListener};

/// Connections a listener keeps waiting.
const BACKLOG: i32 = 4096;

/// The command line: `--listen ADDR [--core N]`.
pub struct Args {
    /// Where to listen.
    pub listen: SocketAddr,
}

impl Args {
    /// Reads it, pins this thread, and begins to wait for the end.
    ///
    /// # Panics
    /// On arguments that are none; the message says what is wanted.
    pub fn take() -> Args {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let value = |name: &str| {
            words
                .iter()
                .position(|word| word == name)
                .map(|at| words.get(at + 1).cloned().unwrap_or_default())
        };
        let listen = value("--listen").and_then(|text| text.parse().ok());
        let listen = listen.expect("--listen wants an address such as 127.0.0.1:7001");
        if let Some(core) = value("--core") {
            let id = core.parse().expect("--core wants a number");
            assert!(
                core_affinity::set_for_current(core_affinity::CoreId { id }),
                "core {core} cannot be used"
            );
        }
        account::at_the_end();
        Args { listen }
    }

    /// A listener with TCP_NODELAY, which accepted sockets inherit.
    ///
    /// # Panics
    /// When the address cannot be used.
    pub fn listener(&self) -> TcpListener {
        let listener = TcpListener::bind(self.listen).expect("the address can be listened on");
        use std::os::fd::AsRawFd as _;
        let fd = listener.as_raw_fd();
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option is an int that outlives the call.
        let set =
            unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), 4) };
        assert_eq!(set, 0, "TCP_NODELAY can be set");
        // SAFETY: the descriptor is an open listener; a second listen only changes its backlog.
        assert_eq!(unsafe { libc::listen(fd, BACKLOG) }, 0, "the backlog can be set");
        println!("listening {}", listener.local_addr().expect("it is bound"));
        listener
    }
}

/// Accepts on a tokio runtime of one thread and serves each connection by a task of it.
///
/// # Panics
/// When there is no runtime to be had.
pub fn on_tokio<F: Future<Output = ()> + 'static>(args: &Args, serve: impl Fn(tokio::net::TcpStream) -> F) {
    let listener = args.listener();
    listener.set_nonblocking(true).expect("a listener can be made not to wait");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime can be made");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listener");
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream));
            }
        }
    });
}
