//! Marks: what a batch of worlds must have reached. A mark that no world reaches says that the simulator is blind there.

macro_rules! marks {
    ($($name:ident = $text:literal,)*) => {
        /// Something that must happen in some world.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[allow(clippy::upper_case_acronyms, reason = "marks are named after what they mark")]
        pub(crate) enum Mark { $($name,)* }

        const TEXTS: &[&str] = &[$($text,)*];
        const ALL: &[Mark] = &[$(Mark::$name,)*];
    };
}

marks! {
    InRooms = "input Rooms", InAccepted = "input Accepted", InArrived = "input Arrived", InMoveFailed = "input MoveFailed",
    InReceived = "input Received", InSentSome = "input SentSome", InSentWhole = "input Sent whole",
    InSentFailed = "input Sent not whole", InSentLate = "input Sent of a door that is gone", InGone = "input Gone",
    InLetter = "input Letter", InSettings = "input Order Settings", InNotice = "input Order Notice",
    InDrain = "input Order Drain", InWrote = "input Wrote", InWroteFailed = "input Wrote failed",
    InSuperblock = "input WroteSuperblock", InSuperblockFailed = "input WroteSuperblock failed",
    InSegmentReady = "input SegmentReady", InSegmentFull = "input SegmentFailed Full",
    InSegmentFailed = "input SegmentFailed Failed", InTick = "input Tick", InEndOfTurn = "input EndOfTurn",
    OutSend = "effect Send", OutClose = "effect Close", OutPause = "effect Pause", OutResume = "effect Resume",
    OutMove = "effect Move", OutHandOver = "effect HandOver", OutWrite = "effect Write",
    OutSuperblock = "effect WriteSuperblock", OutSegment = "effect PrepareSegment", OutLetter = "effect Letter",
    OutServing = "report Serving", OutSettings = "report SettingsApplied", OutDurable = "report Durable",
    OutStorageFull = "report StorageFull", OutStorageBack = "report StorageBack", OutSealed = "report Sealed",
    OutStopAccepting = "effect StopAccepting", OutFenceJournal = "effect Fence Journal",
    OutFenceSuperblock = "effect Fence Superblock", OutStop = "effect Stop",
    LetterSay = "letter Say", LetterClose = "letter Close", LetterListen = "letter Listen", LetterPull = "letter Pull",
    LetterHistory = "letter History", LetterAccept = "letter Accept", LetterList = "letter List",
    LetterAssign = "letter Assign", LetterAssignResult = "letter AssignResult", LetterEvent = "letter Event",
    LetterHint = "letter Hint", LetterRow = "letter Row", LetterOffer = "letter Offer", LetterAvail = "letter Avail",
    LetterPosition = "letter Position", LetterHead = "letter Head", LetterAnnounce = "letter Announce",
    LetterAnnounceEnd = "letter AnnounceEnd", LetterTicket = "letter Ticket", LetterPresence = "letter Presence",
    LetterDecline = "letter Decline", LetterLists = "letter Lists", LetterListsStale = "letter ListsStale",
    LetterUnlisten = "letter Unlisten", LetterCursor = "letter Cursor", LetterTyping = "letter Typing",
    LetterSpent = "letter Spent",
    AnswerStored = "answer Stored", AnswerRefused = "answer Refused", AnswerListening = "answer Listening",
    AnswerNotListening = "answer NotListening", AnswerEvents = "answer Events", AnswerText = "answer Text",
    RecordStarted = "record STARTED", RecordMessage = "record MESSAGE", RecordNote = "record NOTE",
    RecordAssigned = "record ASSIGNED", RecordClosed = "record CLOSED", RecordReopened = "record REOPENED",
    RecordQueued = "record QUEUED", RecordReceipts = "record RECEIPTS",
    RecordSnapshotConversation = "record SNAPSHOT_CONVERSATION", RecordSnapshotEvents = "record SNAPSHOT_EVENTS",
    ErrBadRequest = "error bad_request", ErrAuth = "error auth", ErrForbidden = "error forbidden",
    ErrNotFound = "error not_found", ErrIdConflict = "error id_conflict", ErrStale = "error stale",
    ErrClosed = "error closed", ErrNotOwner = "error not_owner", ErrQuota = "error quota",
    ErrTooLarge = "error too_large", ErrRateLimited = "error rate_limited", ErrOverloaded = "error overloaded",
    ErrStorageFull = "error storage_full", ErrUnavailable = "error unavailable", ErrInternal = "error internal",
    Close1000 = "close 1000", Close1001 = "close 1001", Close1002 = "close 1002", Close1003 = "close 1003",
    Close1007 = "close 1007", Close1009 = "close 1009", Close1011 = "close 1011", Close4000 = "close 4000",
    Close4100 = "close 4100", Close4101 = "close 4101", Close4110 = "close 4110", Close4111 = "close 4111",
    Close4200 = "close 4200", Close4201 = "close 4201", Close4202 = "close 4202", Close4300 = "close 4300",
    Close4301 = "close 4301",
    Http101 = "http 101", HttpBadRequest = "http 400", HttpForbidden = "http 403", HttpNotFound = "http 404",
    HttpTooLarge = "http 431", HttpUpgrade = "http 426", HttpBusy = "http 503", HttpControl = "http answered by the control plane",
    PushMsg = "push msg", PushNote = "push note", PushAgent = "push agent", PushStatus = "push status",
    PushHello = "push hello", PushSync = "push sync", PushSyncError = "push sync with err", PushTyping = "push typing",
    PushSeen = "push seen", PushDelivered = "push delivered", PushPresence = "push presence", PushQueue = "push queue",
    PushOffer = "push offer", PushOfferGone = "push offer_gone", PushList = "push list", PushConv = "push conv",
    PushAvail = "push avail", PushNotice = "push notice", PushLag = "push lag", PushHistoryLost = "push history_lost",
    PushGoaway = "push goaway", PushHeartbeat = "push heartbeat",
    Resumed = "session resumed", ResumedReplay = "session resumed with a replay", NotResumed = "session not resumed",
    KeptAtMemory = "told again what was flushed before a loss of power", UnsaidAtMemory = "no longer told what was not",
    Limited = "sync limited", HistoryPaged = "history paged", HistoryGap = "history with a lost part", Dup = "answer with dup",
    DupAfterCrash = "answer with dup after a crash", SameCidOtherDevice = "one cid of two devices",
    LevelMemory = "ack at level memory", LevelDisk = "ack at level disk",
    FullBehind = "full: delivery dropped, listener behind", FullParked = "full: letter parked",
    FullStalled = "full: socket stalled", FullHints = "full: hint dropped", FullStorage = "full: storage_full",
    FullHot = "full: hot bytes", FullSessions = "full: sessions", FullTable = "full: descriptor table",
    FullOutbox = "full: outbox of a slow reader", FullMailbox = "full: mailbox without a place", FullInflight = "full: unacknowledged events",
    Pulled = "door pulled what it missed", Crossed = "message crossed shards",
    Expired = "session expired", AckIgnored = "acknowledgement ignored", Checkpointed = "checkpoint finished a round",
    ReplayMoved = "replay began behind the first segment", Rolled = "journal rolled to another segment",
    CrashKill = "crash by kill", CrashPower = "crash by loss of power", FlushFailed = "flush failed of what was acknowledged", CrashBoot = "crash during recovery",
    CrashBootTwice = "crash during recovery, twice in a row", CrashDrain = "crash during a drain", CleanStop = "clean stop",
    Sealed = "recovery found a seal", TornTail = "recovery cut a torn tail", Cut = "recovery cut at a hole",
    Rewound = "history epoch bumped", SegmentReused = "segment file used again", DropCleared = "superblock torn",
    ClockBack = "wall clock jumped back", ClockAhead = "wall clock jumped ahead", OneShard = "world with one shard",
    ThreeShards = "world with three shards", Orphan = "start whose visitor never got his token",
    FirstWords = "auth and start in one frame", ManyTabs = "several tabs of a visitor", ManySessions = "several sessions of an agent",
    Vanished = "half-open peer", Rotten = "flipped bit in the journal", Declined = "offer declined", OfferAccepted = "offer accepted", AcceptedByHand = "accepted by hand",
}

/// Marks that the simulator cannot reach, each with the reason.
const EXCEPTIONS: &[(Mark, &str)] = &[
    (Mark::ErrInternal, "says that the program is wrong; there is no known way to it"),
    (Mark::Close1011, "says that the program is wrong; there is no known way to it"),
];

/// How often each mark was reached.
#[derive(Clone)]
pub(crate) struct Marks(Vec<u64>);

impl Default for Marks {
    fn default() -> Marks {
        Marks(vec![0; ALL.len()])
    }
}

impl Marks {
    pub(crate) fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    pub(crate) fn hit_if(&mut self, mark: Mark, reached: bool) {
        self.0[mark as usize] += u64::from(reached);
    }

    pub(crate) fn add(&mut self, other: &Marks) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Names of the marks nobody reached; those with a reason are left out.
    pub(crate) fn unreached(&self) -> Vec<&'static str> {
        let excepted = |mark: Mark| EXCEPTIONS.iter().any(|&(exception, _)| exception == mark);
        ALL.iter()
            .filter(|&&mark| self.0[mark as usize] == 0 && !excepted(mark))
            .map(|&mark| TEXTS[mark as usize])
            .collect()
    }

    /// Every mark with its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        TEXTS.iter().copied().zip(self.0.iter().copied())
    }

    /// What need not be reached, with the reason.
    pub(crate) fn exceptions() -> impl Iterator<Item = (&'static str, &'static str)> {
        EXCEPTIONS.iter().map(|&(mark, why)| (TEXTS[mark as usize], why))
    }
}
