//! Surgery on journals: files deleted, cut short or overwritten. The server refuses them, or names what is damaged; it never serves as if nothing were missing.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crash::server::Plan;

use super::{begin, copy};
use crate::Common;

/// The journal cannot be opened.
const JOURNAL: i32 = 77;
/// The data directory cannot be used.
const DISK: i32 = 76;
/// `journal verify` found damage.
const DAMAGED: i32 = 9;

pub(super) async fn deleted(common: &Common, plan: Plan) -> Result<String, String> {
    operate(common, plan, |segment| std::fs::remove_file(segment)).await
}

pub(super) async fn truncated(common: &Common, plan: Plan) -> Result<String, String> {
    operate(common, plan, |segment| {
        let file = std::fs::OpenOptions::new().write(true).open(segment)?;
        file.set_len((file.metadata()?.len() / 2) & !4095)
    })
    .await
}

pub(super) async fn overwritten(common: &Common, plan: Plan) -> Result<String, String> {
    operate(common, plan, |segment| {
        let mut file = std::fs::OpenOptions::new().write(true).open(segment)?;
        file.seek(SeekFrom::Start(64 << 10))?;
        file.write_all(&[0xa5; 4096])
    })
    .await
}

/// A segment that holds acknowledged messages and is not the one being written is operated on.
async fn operate(
    common: &Common,
    mut plan: Plan,
    cut: impl Fn(&Path) -> std::io::Result<()>,
) -> Result<String, String> {
    plan.segment_mb = 1;
    let mut rig = begin(common, plan).await?;
    let data_dir = rig.server.plan().data_dir.clone();
    let segment = loop {
        rig.talk(Duration::from_millis(200)).await?;
        if let Some(segment) = full_segment(&data_dir) {
            break segment;
        }
    };
    rig.server.kill().map_err(|error| error.to_string())?;
    let sound = data_dir.with_file_name("sound");
    copy(&data_dir, &sound)?;
    cut(&segment).map_err(|error| format!("{}: {error}", segment.display()))?;
    let (status, text) = rig.server.run(&["journal", "verify"]).map_err(|error| error.to_string())?;
    if status != DAMAGED && status != JOURNAL && status != DISK {
        return Err(format!(
            "journal verify ended with {status} on a journal without {}: {text}",
            segment.display()
        ));
    }
    rig.world.quiet.set(true);
    let logged = rig.server.log().len();
    rig.server.start().map_err(|error| error.to_string())?;
    let started = match rig.server.wait(Duration::from_secs(4)).await {
        Ok(status) if status.code() == Some(JOURNAL) || status.code() == Some(DISK) => {
            format!("refused with {}", status.code().unwrap_or(0))
        }
        Ok(status) => return Err(format!("the start ended with {status}\n{}", rig.server.log_tail())),
        Err(_) => {
            let log = rig.server.log();
            if !log[logged..].contains("damaged") {
                return Err(format!("it serves and names no damage\n{}", rig.server.log_tail()));
            }
            // Numbers may be gone, but whoever was told them must learn that this is another history.
            if let Some(unsaid) = rig.world.complaints.borrow().iter().find(|what| what.contains("is unsaid"))
            {
                return Err(format!("damage is named, and heads go back within one history epoch: {unsaid}"));
            }
            "served, the damage named".to_owned()
        }
    };
    // With the file back in place all is there: the refused start has changed nothing.
    rig.server.kill().map_err(|error| error.to_string())?;
    std::fs::remove_dir_all(&data_dir).map_err(|error| error.to_string())?;
    std::fs::rename(&sound, &data_dir).map_err(|error| error.to_string())?;
    rig.world.complaints.borrow_mut().clear();
    let told = text
        .lines()
        .find(|line| line.contains("damag") || line.contains("missing") || line.contains("segment"))
        .unwrap_or(text.trim())
        .to_owned();
    // What clients heard of the damaged copy is not held against the sound one.
    Ok(format!("verify: {status} ({told}); start: {started}"))
}

pub(super) async fn superblock(common: &Common, plan: Plan) -> Result<String, String> {
    let mut rig = begin(common, plan).await?;
    let data_dir = rig.server.plan().data_dir.clone();
    rig.server.kill().map_err(|error| error.to_string())?;
    let path = find(&data_dir, &|path| path.ends_with("superblock"))
        .into_iter()
        .next()
        .ok_or("there is no superblock")?;
    let good = std::fs::read(&path).map_err(|error| error.to_string())?;
    // One copy of four may be lost without harm.
    let mut bytes = good.clone();
    bytes[..4096].fill(0xa5);
    std::fs::write(&path, &bytes).map_err(|error| error.to_string())?;
    rig.start().await.map_err(|error| format!("with one copy gone: {error}"))?;
    rig.server.kill().map_err(|error| error.to_string())?;
    let good = std::fs::read(&path).map_err(|error| error.to_string())?;
    std::fs::write(&path, vec![0xa5; good.len()]).map_err(|error| error.to_string())?;
    rig.server.start().map_err(|error| error.to_string())?;
    let status = rig
        .server
        .wait(Duration::from_secs(10))
        .await
        .map_err(|error| format!("without a superblock: {error}"))?;
    if status.code() != Some(JOURNAL) {
        return Err(format!(
            "without a superblock the start ended with {status} and not {JOURNAL}\n{}",
            rig.server.log_tail()
        ));
    }
    std::fs::write(&path, &good).map_err(|error| error.to_string())?;
    rig.start().await?;
    super::finish(rig, format!("one copy may go; without any the start is refused with {JOURNAL}")).await
}

/// The last segment that is full: the one before the newest, of the shard with most of them.
fn full_segment(data_dir: &Path) -> Option<PathBuf> {
    let mut best: Vec<(u32, PathBuf)> = Vec::new();
    for superblock in find(data_dir, &|path| path.ends_with("superblock")) {
        let mut segments: Vec<(u32, PathBuf)> =
            find(superblock.parent()?, &|path| !path.ends_with("superblock"))
                .into_iter()
                .filter_map(|path| {
                    let mut head = [0; 24];
                    std::fs::File::open(&path).ok()?.read_exact(&mut head).ok()?;
                    let number = u32::from_le_bytes(head[20..24].try_into().ok()?);
                    head.starts_with(b"RINGDBLK").then_some((number, path))
                })
                .collect();
        segments.sort();
        if segments.len() > best.len() {
            best = segments;
        }
    }
    (best.len() >= 3).then(|| best.swap_remove(best.len() - 2).1)
}

/// Files below a directory.
pub(super) fn find(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(find(&path, wanted));
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}
