//! What the process ends with. Stable: supervisors and scripts depend on it.

use std::process::ExitCode;

/// The statuses of the control plane; those from 70 on are the data plane's and stand in `edge::exit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done, or stopped as asked.
    Good,
    /// Something failed that has no status of its own; standard error names it.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong; nothing was applied.
    Config,
    /// control.db, or another file of the control plane, cannot be used.
    Store,
    /// `journal verify` found damage.
    Damaged,
    /// `doctor` found what keeps the server from serving.
    Unfit,
    /// There is no such account.
    NoAccount,
    /// The data plane's, from `edge::exit`.
    Edge(i32),
}

impl Exit {
    /// The number.
    pub(crate) fn status(self) -> i32 {
        match self {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Config => 3,
            Exit::Store => 4,
            Exit::Unfit => 5,
            Exit::NoAccount => 6,
            Exit::Damaged => 9,
            Exit::Edge(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(u8::try_from(exit.status()).expect("statuses are below 256"))
    }
}
