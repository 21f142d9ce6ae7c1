//! Which build of the program a host can run.

use core::fmt;

/// A build, from the one that runs on most hosts to the one that runs on fewest.
///
/// The levels of x86-64 and their features are those of table 3.1, "Micro-Architecture Levels", of the System V ABI, AMD64 Architecture Processor
/// Supplement (<https://gitlab.com/x86-psABIs/x86-64-ABI>); each has those of the level before it:
///
/// | level | features | as Linux names them |
/// |---|---|---|
/// | baseline | CMOV CX8 FPU FXSR MMX OSFXSR SCE SSE SSE2 | `cmov cx8 fpu fxsr mmx syscall sse sse2` |
/// | x86-64-v2 | CMPXCHG16B LAHF-SAHF POPCNT SSE3 SSE4_1 SSE4_2 SSSE3 | `cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3` |
/// | x86-64-v3 | AVX AVX2 BMI1 BMI2 F16C FMA LZCNT MOVBE OSXSAVE | `avx avx2 bmi1 bmi2 f16c fma abm movbe xsave` |
/// | x86-64-v4 | AVX512F AVX512BW AVX512CD AVX512DQ AVX512VL | `avx512f avx512bw avx512cd avx512dq avx512vl` |
///
/// Linux has no word for OSFXSR and OSXSAVE: it shows `fxsr` and `xsave` only where it has switched them on. LZCNT is part of what AMD called ABM.
/// A build for aarch64 asks for what the Procedure Call Standard for the Arm 64-bit Architecture (AAPCS64) takes for granted: floating point and
/// Advanced SIMD (`fp asimd`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Build {
    /// Any 64-bit x86.
    X86V1,
    /// x86-64-v2.
    X86V2,
    /// x86-64-v3.
    X86V3,
    /// x86-64-v4.
    X86V4,
    /// 64-bit Arm.
    Aarch64,
}

const X86: [(Build, &[&str]); 4] = [
    (Build::X86V1, &["lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"]),
    (Build::X86V2, &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    (Build::X86V3, &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"]),
    (Build::X86V4, &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
];

impl Build {
    /// The best build that every processor in a `/proc/cpuinfo` can run; `None` if the text does not say.
    pub fn best(cpuinfo: &str) -> Option<Build> {
        if let Some(features) = common(cpuinfo, "Features") {
            return ["fp", "asimd"].iter().all(|f| features.contains(f)).then_some(Build::Aarch64);
        }
        let flags = common(cpuinfo, "flags")?;
        let reached = X86.iter().take_while(|(_, needed)| needed.iter().all(|f| flags.contains(f)));
        reached.last().map(|&(build, _)| build)
    }

    /// What the next build would need and a processor of this host lacks.
    pub fn lacking(self, cpuinfo: &str) -> Vec<&'static str> {
        let flags = common(cpuinfo, "flags").unwrap_or_default();
        let next = X86.iter().find(|(build, _)| *build > self);
        next.map_or(&[][..], |(_, needed)| needed).iter().copied().filter(|f| !flags.contains(f)).collect()
    }

    /// Whether a host whose best build is `best` can run this one.
    pub fn runs_on(self, best: Build) -> bool {
        (self == Build::Aarch64) == (best == Build::Aarch64) && self <= best
    }

    /// As compilers name it.
    pub fn name(self) -> &'static str {
        match self {
            Build::X86V1 => "x86-64",
            Build::X86V2 => "x86-64-v2",
            Build::X86V3 => "x86-64-v3",
            Build::X86V4 => "x86-64-v4",
            Build::Aarch64 => "aarch64",
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The words that every processor's line `key` has: a host may have cores of two kinds, and a thread may run on either.
fn common<'a>(cpuinfo: &'a str, key: &str) -> Option<Vec<&'a str>> {
    let mut lines = cpuinfo.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value)
    });
    let mut words: Vec<&str> = lines.next()?.split_whitespace().collect();
    for line in lines {
        let others: Vec<&str> = line.split_whitespace().collect();
        words.retain(|word| others.contains(word));
    }
    Some(words)
}
