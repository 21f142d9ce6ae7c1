//! `echo`: what is sent comes back.

use monoio::io::AsyncReadRent as _;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::clock::now_ns;
use crate::conn::{self, Conn, Ear};
use crate::verify::{Body, Faults, Stream};
use crate::worker::Run;

/// Connections that are being made at once.
const OPENING: u32 = 64;

/// One connection: what it sent and what came back.
struct Peer {
    conn: Rc<Conn>,
    sent: Cell<u64>,
    stream: RefCell<Stream>,
}

impl Peer {
    fn send(&self, run: &Run, intended_ns: u64, text: &mut String) {
        self.sent.set(self.sent.get() + 1);
        text.clear();
        Body { number: self.sent.get(), intended_ns }.write(text, run.share.scenario.payload);
        self.conn.text(text);
        run.figures.borrow_mut().counts.sent += 1;
        run.time("schedule lag", intended_ns);
    }

    fn heard(&self, run: &Run, text: &str) {
        let mut stream = self.stream.borrow_mut();
        let Some(body) = Body::read(text) else { return stream.altered() };
        stream.saw(body.number);
        run.time("echo", body.intended_ns);
        run.figures.borrow_mut().counts.received += 1;
    }
}

pub(crate) async fn work(run: Rc<Run>) -> Result<(), String> {
    let count = run.share.part(run.share.scenario.connections);
    let peers = Rc::new(RefCell::new(Vec::with_capacity(count as usize)));
    let next = Rc::new(Cell::new(0));
    let openers: Vec<_> = (0..OPENING.min(count))
        .map(|_| monoio::spawn(open_some(Rc::clone(&run), Rc::clone(&next), count, Rc::clone(&peers))))
        .collect();
    for opener in openers {
        opener.await;
    }
    if (peers.borrow().len() as u32) < count {
        let error = run.figures.borrow().errors.first().cloned().unwrap_or_default();
        return Err(format!("{} of {count} connections could be made: {error}", peers.borrow().len()));
    }
    run.go().await;
    let peers = Rc::try_unwrap(peers).ok().expect("all are open").into_inner();
    let mut text = String::new();
    if run.share.scenario.rate == 0.0 {
        // A closed loop: the listening tasks go on by themselves.
        for peer in &peers {
            peer.send(&run, now_ns(), &mut text);
        }
        while !run.is_over() {
            monoio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    } else {
        let mut bell = run.bell().map_err(|error| error.to_string())?;
        let mut turn = 0;
        let mut buffer = vec![0; 64];
        let start = run.start_ns.get();
        let mut times =
            run.times().map(|offset| start + offset).take_while(|&at| at < run.end_ns()).peekable();
        while times.peek().is_some() && !run.is_over() {
            let (_, back) = bell.read(buffer).await;
            buffer = back;
            let now = now_ns();
            while let Some(at) = times.next_if(|&at| at <= now) {
                peers[turn % peers.len()].send(&run, at, &mut text);
                turn += 1;
            }
        }
    }
    let missing = || {
        let counts = run.figures.borrow().counts;
        counts.sent.saturating_sub(counts.received)
    };
    run.settle(|| missing() == 0).await;
    run.ending.set(true);
    let mut faults = Faults::default();
    for peer in &peers {
        faults.add(&peer.stream.borrow().faults(peer.sent.get()));
        run.figures.borrow_mut().counts.bytes_out += peer.conn.said();
    }
    run.figures.borrow_mut().faults = faults;
    Ok(())
}

async fn open_some(run: Rc<Run>, next: Rc<Cell<u32>>, count: u32, peers: Rc<RefCell<Vec<Rc<Peer>>>>) {
    while next.get() < count && !run.is_stopped() {
        let number = next.get();
        next.set(number + 1);
        let began = now_ns();
        let (from, to) = (run.share.source(number), run.share.target.address);
        let way = conn::Way { from, to, small: None };
        let opened = conn::open(way, "/echo", "", number.wrapping_mul(0x9E37_79B9)).await;
        match opened {
            Ok((conn, ear)) => {
                let peer = Rc::new(Peer { conn, sent: Cell::new(0), stream: RefCell::default() });
                {
                    let mut figures = run.figures.borrow_mut();
                    figures.counts.connected += 1;
                    figures.time("connect", now_ns() - began);
                }
                monoio::spawn(listen(Rc::clone(&run), Rc::clone(&peer), ear));
                peers.borrow_mut().push(peer);
            }
            Err(end) => return run.ended(&end),
        }
    }
}

async fn listen(run: Rc<Run>, peer: Rc<Peer>, mut ear: Ear) {
    let closed_loop = run.share.scenario.rate == 0.0;
    let mut text = String::new();
    loop {
        let mut came = 0;
        let result = ear
            .listen(&peer.conn, |text| {
                peer.heard(&run, text);
                came += 1;
            })
            .await;
        if closed_loop && came > 0 && !run.is_over() && !run.ending.get() {
            (0..came).for_each(|_| peer.send(&run, now_ns(), &mut text));
        }
        run.figures.borrow_mut().counts.bytes_in += core::mem::take(&mut ear.heard);
        if let Err(end) = result {
            return run.ended(&end);
        }
    }
}
