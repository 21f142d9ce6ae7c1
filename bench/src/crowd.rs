//! Many members: how they all come in, how some leave and others come, and how all lose their connections at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::clock::now_ns;
use crate::member::Member;
use crate::scenario::Storm;
use crate::worker::Run;

/// Connections that are being made at once.
const OPENING: u32 = 64;

pub(crate) async fn open_all(run: &Rc<Run>, count: u32, agents: bool) -> Result<Vec<Rc<Member>>, String> {
    let members = Rc::new(RefCell::new(Vec::with_capacity(count as usize)));
    let next = Rc::new(Cell::new(0));
    let openers: Vec<_> = (0..OPENING.min(count))
        .map(|_| {
            monoio::spawn(open_some(Rc::clone(run), agents, Rc::clone(&next), count, Rc::clone(&members)))
        })
        .collect();
    for opener in openers {
        opener.await?;
    }
    let members = Rc::try_unwrap(members).ok().expect("all are open").into_inner();
    match members.len() as u32 == count {
        true => Ok(members),
        false => Err("stopped before everybody was there".into()),
    }
}

async fn open_some(
    run: Rc<Run>,
    agents: bool,
    next: Rc<Cell<u32>>,
    count: u32,
    members: Rc<RefCell<Vec<Rc<Member>>>>,
) -> Result<(), String> {
    while next.get() < count && !run.is_stopped() {
        let number = next.get();
        next.set(number + 1);
        let member = Member::enter(&run, agents, number, "logged in")
            .await
            .inspect_err(|_| run.figures.borrow_mut().counts.failed += 1)?;
        members.borrow_mut().push(member);
    }
    Ok(())
}

/// Visitors leave, one after the other at fixed times, and each is followed by a new one.
/// `first` is the number of the first new one.
pub(crate) async fn churn(run: Rc<Run>, idle: Rc<RefCell<Vec<Rc<Member>>>>, first: u32) {
    let every = Duration::from_secs_f64(f64::from(run.share.workers) / run.share.scenario.churn);
    let (mut gone, mut due_ns) = (0, run.start_ns.get());
    while !run.is_over() {
        let now = now_ns();
        if now < due_ns {
            monoio::time::sleep(Duration::from_nanos(due_ns - now)).await;
            continue;
        }
        due_ns += every.as_nanos() as u64;
        let place = gone as usize % idle.borrow().len();
        let leaving = Rc::clone(&idle.borrow()[place]);
        leaving.leave();
        {
            let mut figures = run.figures.borrow_mut();
            figures.counts.left += 1;
            figures.counts.bytes_out += leaving.said();
        }
        match Member::enter(&run, false, first + gone, "came later").await {
            Ok(member) => idle.borrow_mut()[place] = member,
            Err(error) => {
                let mut figures = run.figures.borrow_mut();
                figures.counts.failed += 1;
                figures.error(error);
                return;
            }
        }
        gone += 1;
    }
}

/// Waits for the storm, and then cuts everybody off. A restart is the coordinator's work.
pub(crate) async fn storm(run: Rc<Run>, members: Vec<Rc<Member>>, storm: Storm) {
    if storm == Storm::Restart {
        return;
    }
    while now_ns() < run.storm_ns() {
        let left = Duration::from_nanos(run.storm_ns().saturating_sub(now_ns()));
        monoio::time::sleep(left.min(Duration::from_millis(50))).await;
        if run.is_over() {
            return;
        }
    }
    for (number, member) in (0u32..).zip(members) {
        let spread = run.spread(number);
        monoio::spawn(member.cut(Rc::clone(&run), storm, spread));
    }
}
