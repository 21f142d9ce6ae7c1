//! The durable form of [`Settings`], ours and small.
//!
//! ```text
//! "RDSK" | format u32 | payload length u32 | 0 u32 | payload … | xxh3-128 of everything before it
//! ```
//! All numbers little-endian. The payload is the fields in the order of the structs; a text is a length (u16) and bytes, a list a count (u32)
//! and elements. The checksum tells damage and a torn write; it is no proof of origin, the directory's rights are.

use super::{Agent, Inbox, Limits, Role, Settings, SigningKey};
use crate::id::{AgentId, InboxId, SiteId};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: [u8; 4] = *b"RDSK";
const FORMAT: u32 = 1;
const HEAD_SIZE: usize = 16;
const SUM_SIZE: usize = 16;
/// The least bytes an inbox, an origin or an agent takes; a count that the rest cannot hold is refused before memory is asked for.
const LEAST_INBOX: usize = 16 + 2 + 2 + 1;
const LEAST_AGENT: usize = 16 + 2 + 1 + 4 + 2 + 1;
const LEAST_KEY: usize = 4 + 32;
const LEAST_TEXT: usize = 2;

/// Why a durable copy was not accepted. All but `Format` mean a damaged file: take the value from the control plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettingsError {
    /// Shorter than it says, or longer.
    Length,
    /// Not a settings file.
    Magic,
    /// Written by a newer server; the number of its format.
    Format(u32),
    /// The checksum does not match.
    Checksum,
    /// The checksum matches and a value is out of its bounds; which.
    Value(&'static str),
}

impl core::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SettingsError::Length => f.write_str("settings copy is cut short or too long"),
            SettingsError::Magic => f.write_str("not a settings copy"),
            SettingsError::Format(format) => {
                write!(f, "settings copy has format {format}, this server reads {FORMAT}")
            }
            SettingsError::Checksum => f.write_str("settings copy is damaged: the checksum does not match"),
            SettingsError::Value(what) => write!(f, "settings copy: {what}"),
        }
    }
}

impl core::error::Error for SettingsError {}

impl Settings {
    /// The durable form, read back by [`Settings::decode`]. It holds the secrets in the clear: the file must be readable by the server alone.
    ///
    /// # Panics
    /// If [`Settings::check`] does not pass.
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(self.check(), Ok(()), "settings are checked by whoever makes them");
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.site.bits().to_le_bytes());
        write_count(&mut out, self.keys.len());
        for key in &self.keys {
            out.extend_from_slice(&key.id.to_le_bytes());
            out.extend_from_slice(&key.secret);
        }
        write_count(&mut out, self.inboxes.len());
        for inbox in &self.inboxes {
            out.extend_from_slice(&inbox.id.bits().to_le_bytes());
            write_text(&mut out, &inbox.name);
            out.extend_from_slice(&u16::try_from(inbox.origins.len()).expect("checked").to_le_bytes());
            for origin in &inbox.origins {
                write_text(&mut out, origin);
            }
            out.push(u8::from(inbox.enabled));
        }
        write_count(&mut out, self.agents.len());
        for agent in &self.agents {
            out.extend_from_slice(&agent.id.bits().to_le_bytes());
            write_text(&mut out, &agent.name);
            out.push(match agent.role {
                Role::Agent => 0,
                Role::Admin => 1,
            });
            out.extend_from_slice(&agent.session_epoch.to_le_bytes());
            out.extend_from_slice(&agent.capacity.to_le_bytes());
            out.push(u8::from(agent.enabled));
        }
        self.limits.write(&mut out);
        let payload = u32::try_from(out.len() - HEAD_SIZE).expect("settings stay far below 4 GiB");
        out[8..12].copy_from_slice(&payload.to_le_bytes());
        let sum = xxh3_128(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the durable form: checksum first, then every value against its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Settings, SettingsError> {
        if bytes.len() < HEAD_SIZE + SUM_SIZE {
            return Err(SettingsError::Length);
        }
        let mut head = Reader { rest: bytes };
        if head.array()? != MAGIC {
            return Err(SettingsError::Magic);
        }
        let format = u32::from_le_bytes(head.array()?);
        if format != FORMAT {
            return Err(SettingsError::Format(format));
        }
        let payload = u32::from_le_bytes(head.array()?) as usize;
        if bytes.len() - HEAD_SIZE - SUM_SIZE != payload {
            return Err(SettingsError::Length);
        }
        let (covered, sum) = bytes.split_at(bytes.len() - SUM_SIZE);
        if xxh3_128(covered).to_le_bytes() != sum {
            return Err(SettingsError::Checksum);
        }
        let mut from = Reader { rest: &covered[HEAD_SIZE..] };
        let settings = Settings {
            version: u64::from_le_bytes(from.array()?),
            site: SiteId::from_bits(from.bits()?).ok_or(SettingsError::Value("site is no site id"))?,
            keys: from.list(LEAST_KEY, |from| {
                Ok(SigningKey { id: u32::from_le_bytes(from.array()?), secret: from.array()? })
            })?,
            inboxes: from.list(LEAST_INBOX, read_inbox)?,
            agents: from.list(LEAST_AGENT, read_agent)?,
            limits: Limits::read(&mut from)?,
        };
        if !from.rest.is_empty() {
            return Err(SettingsError::Length);
        }
        settings.check().map_err(SettingsError::Value)?;
        Ok(settings)
    }
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("lists stay far below 2^32").to_le_bytes());
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("texts are checked to be short");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn read_inbox(from: &mut Reader<'_>) -> Result<Inbox, SettingsError> {
    let id = InboxId::from_bits(from.bits()?).ok_or(SettingsError::Value("inboxes.id is no inbox id"))?;
    let name = from.text()?;
    let origins = usize::from(u16::from_le_bytes(from.array()?));
    let origins = from.elements(origins, LEAST_TEXT, Reader::text)?;
    Ok(Inbox { id, name, origins, enabled: from.flag()? })
}

fn read_agent(from: &mut Reader<'_>) -> Result<Agent, SettingsError> {
    Ok(Agent {
        id: AgentId::from_bits(from.bits()?).ok_or(SettingsError::Value("agents.id is no agent id"))?,
        name: from.text()?,
        role: match from.array::<1>()? {
            [0] => Role::Agent,
            [1] => Role::Admin,
            _ => return Err(SettingsError::Value("agents.role is unknown")),
        },
        session_epoch: u32::from_le_bytes(from.array()?),
        capacity: u16::from_le_bytes(from.array()?),
        enabled: from.flag()?,
    })
}

/// What is left to read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SettingsError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(SettingsError::Length)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn bits(&mut self) -> Result<u128, SettingsError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, SettingsError> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(SettingsError::Value("a flag is neither 0 nor 1")),
        }
    }

    fn text(&mut self) -> Result<String, SettingsError> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(SettingsError::Length)?;
        self.rest = rest;
        let text = core::str::from_utf8(taken).map_err(|_| SettingsError::Value("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn list<T>(
        &mut self,
        least: usize,
        read: impl FnMut(&mut Self) -> Result<T, SettingsError>,
    ) -> Result<Vec<T>, SettingsError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        self.elements(count, least, read)
    }

    fn elements<T>(
        &mut self,
        count: usize,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, SettingsError>,
    ) -> Result<Vec<T>, SettingsError> {
        if count > self.rest.len() / least {
            return Err(SettingsError::Length);
        }
        (0..count).map(|_| read(self)).collect()
    }
}
