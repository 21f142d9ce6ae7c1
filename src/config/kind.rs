//! The kinds of values a setting may have, and how each reads.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::layer::Raw;

/// A kind of value. `bounds` are inclusive and in the kind's own unit.
pub(crate) trait Kind: Sized {
    /// What is wanted, to be read after "wants".
    const WANTS: &'static str;
    /// Reads it, or says what is wrong.
    fn read(raw: &Raw, bounds: Option<(u64, u64)>) -> Result<Self, String>;
    /// As it would be written in the file.
    fn show(&self) -> String;
    /// A bound as it would be written in the file.
    fn show_bound(bound: u64) -> String {
        bound.to_string()
    }
}

fn wrong<K: Kind>(raw: &Raw) -> String {
    format!("wants {}, not {raw}", K::WANTS)
}

fn bounded<K: Kind>(value: u64, bounds: Option<(u64, u64)>) -> Result<u64, String> {
    match bounds {
        Some((low, high)) if value < low || value > high => {
            Err(format!("must be from {} to {}", K::show_bound(low), K::show_bound(high)))
        }
        _ => Ok(value),
    }
}

fn number<K: Kind>(raw: &Raw, bounds: Option<(u64, u64)>) -> Result<u64, String> {
    let value = match raw {
        Raw::Whole(value) => *value,
        Raw::Loose(text) => text.trim().parse().map_err(|_| wrong::<K>(raw))?,
        _ => return Err(wrong::<K>(raw)),
    };
    // A negative number is out of every bound here; it is told like any other that is too small.
    match u64::try_from(value) {
        Ok(value) => bounded::<K>(value, bounds),
        Err(_) => bounded::<K>(0, Some(bounds.map_or((1, u64::MAX), |(low, high)| (low.max(1), high))))
            .map_err(|_| {
                let (low, high) = bounds.unwrap_or((0, u64::MAX));
                format!("must be from {} to {}", K::show_bound(low), K::show_bound(high))
            }),
    }
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Kind for $kind {
            const WANTS: &'static str = "a whole number";
            fn read(raw: &Raw, bounds: Option<(u64, u64)>) -> Result<Self, String> {
                let (low, high) = bounds.unwrap_or((0, u64::from(<$kind>::MAX)));
                let value = number::<Self>(raw, Some((low, high.min(u64::from(<$kind>::MAX)))))?;
                Ok(<$kind>::try_from(value).expect("it is within the bounds of its kind"))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
numbers! { u16 u32 }

impl Kind for bool {
    const WANTS: &'static str = "true or false";
    fn read(raw: &Raw, _: Option<(u64, u64)>) -> Result<Self, String> {
        match raw {
            Raw::Truth(value) => Ok(*value),
            Raw::Loose(text) => text.trim().parse().map_err(|_| wrong::<Self>(raw)),
            _ => Err(wrong::<Self>(raw)),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number with a unit, or a bare one in the kind's own unit.
fn measured<K: Kind>(raw: &Raw, bounds: Option<(u64, u64)>, units: &[(&str, u64)]) -> Result<u64, String> {
    let (low, high) = bounds.unwrap_or((0, u64::MAX));
    let bounds = Some((low, high.min(u64::from(u32::MAX))));
    match raw {
        Raw::Text(text) | Raw::Loose(text) if text.parse::<u64>().is_err() => {
            bounded::<K>(with_unit(text, units).ok_or_else(|| wrong::<K>(raw))?, bounds)
        }
        _ => number::<K>(raw, bounds),
    }
}

/// A number with a unit behind it; `None` if it is none.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?.1;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Millis(pub(crate) u32);

impl Kind for Millis {
    const WANTS: &'static str = "milliseconds, or a time such as \"25s\" (ms, s, m, h)";
    fn read(raw: &Raw, bounds: Option<(u64, u64)>) -> Result<Self, String> {
        let value =
            measured::<Self>(raw, bounds, &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)])?;
        Ok(Millis(u32::try_from(value).expect("it is within the bounds of its kind")))
    }
    fn show(&self) -> String {
        self.0.to_string()
    }
    fn show_bound(bound: u64) -> String {
        match bound {
            0 => "0s".to_owned(),
            _ if bound.is_multiple_of(3_600_000) => format!("{}h", bound / 3_600_000),
            _ if bound.is_multiple_of(60_000) => format!("{}m", bound / 60_000),
            _ if bound.is_multiple_of(1_000) => format!("{}s", bound / 1_000),
            _ => format!("{bound}ms"),
        }
    }
}

/// A size in mebibytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mib(pub(crate) u32);

impl Mib {
    /// In bytes.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl Kind for Mib {
    const WANTS: &'static str = "MiB, or a size such as \"64MiB\" (MiB, GiB, TiB)";
    fn read(raw: &Raw, bounds: Option<(u64, u64)>) -> Result<Self, String> {
        let value = measured::<Self>(raw, bounds, &[("MiB", 1), ("GiB", 1 << 10), ("TiB", 1 << 20)])?;
        Ok(Mib(u32::try_from(value).expect("it is within the bounds of its kind")))
    }
    fn show(&self) -> String {
        self.0.to_string()
    }
    fn show_bound(bound: u64) -> String {
        match bound {
            0 => "0MiB".to_owned(),
            _ if bound.is_multiple_of(1 << 20) => format!("{}TiB", bound >> 20),
            _ if bound.is_multiple_of(1 << 10) => format!("{}GiB", bound >> 10),
            _ => format!("{bound}MiB"),
        }
    }
}

fn text<K: Kind>(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::Text(text) | Raw::Loose(text) => Ok(text),
        _ => Err(wrong::<K>(raw)),
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Kind for SocketAddr {
    const WANTS: &'static str = "an address and port such as \"0.0.0.0:8080\" or \"[::]:8080\"";
    fn read(raw: &Raw, _: Option<(u64, u64)>) -> Result<Self, String> {
        text::<Self>(raw)?.trim().parse().map_err(|_| wrong::<Self>(raw))
    }
    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Kind for PathBuf {
    const WANTS: &'static str = "a path";
    fn read(raw: &Raw, _: Option<(u64, u64)>) -> Result<Self, String> {
        let path = text::<Self>(raw)?;
        if path.is_empty() || path.contains('\0') {
            return Err(wrong::<Self>(raw));
        }
        Ok(PathBuf::from(path))
    }
    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident wants $wants:literal { $($(#[$choice_doc:meta])* $choice:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $name {
            $($(#[$choice_doc])* $choice,)*
        }
        impl Kind for $name {
            const WANTS: &'static str = $wants;
            fn read(raw: &Raw, _: Option<(u64, u64)>) -> Result<Self, String> {
                match text::<Self>(raw)?.trim() {
                    $($text => Ok($name::$choice),)*
                    _ => Err(wrong::<Self>(raw)),
                }
            }
            fn show(&self) -> String {
                quoted(match self { $($name::$choice => $text,)* })
            }
        }
    )*};
}

choices! {
    /// When an acknowledgement may leave.
    Durability wants "\"disk\" or \"memory\"" {
        /// After the disk has confirmed.
        Disk = "disk",
        /// After the page cache has it: survives the process, not the power.
        Memory = "memory",
    }
    /// How the journal is written.
    Sync wants "\"auto\", \"direct\" or \"buffered\"" {
        /// As was measured on this disk at the first start.
        Auto = "auto",
        /// O_DIRECT and O_DSYNC.
        Direct = "direct",
        /// A buffered write, then fdatasync.
        Buffered = "buffered",
    }
    /// What is logged.
    LogLevel wants "\"error\", \"warn\", \"info\" or \"debug\"" {
        /// What needs somebody.
        Error = "error",
        /// And what may need somebody.
        Warn = "warn",
        /// And what happens once in a while.
        Info = "info",
        /// And what helps to find a fault.
        Debug = "debug",
    }
    /// How a line of the log looks.
    LogFormat wants "\"text\" or \"json\"" {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// An origin as a browser writes it: `scheme://host[:port]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin(pub(crate) String);

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://")?;
        let well = matches!(scheme, "http" | "https")
            && !rest.is_empty()
            && text.len() <= 512
            && !rest.contains(['/', '?', '#', '@', '*', '\\'])
            && rest.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
            && !(scheme == "https" && rest.ends_with(":443"))
            && !(scheme == "http" && rest.ends_with(":80"));
        well.then(|| Origin(text.to_owned()))
    }
}

impl Kind for Vec<Origin> {
    const WANTS: &'static str = "origins as browsers write them, such as [\"https://shop.example\"] (lower case, no path, no default port, no wildcard)";
    fn read(raw: &Raw, bounds: Option<(u64, u64)>) -> Result<Self, String> {
        let texts: Vec<&str> = match raw {
            Raw::List(items) => items.iter().map(text::<Self>).collect::<Result<_, _>>()?,
            Raw::Loose(text) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
            _ => return Err(wrong::<Self>(raw)),
        };
        if let Some((_, most)) = bounds.filter(|&(_, most)| texts.len() as u64 > most) {
            return Err(format!("must have at most {most} entries"));
        }
        texts
            .into_iter()
            .map(|text| Origin::parse(text).ok_or_else(|| wrong::<Self>(&Raw::Text(text.to_owned()))))
            .collect()
    }
    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(|origin| quoted(&origin.0)).collect();
        format!("[{}]", items.join(", "))
    }
    fn show_bound(bound: u64) -> String {
        format!("{bound} entries")
    }
}
