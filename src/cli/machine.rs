//! Facts about this machine, for tables and JSON.
#![forbid(unsafe_code)]

use crate::cli::refusal::option;
use mixgemm::{Error, Isa};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::thread;

/// What results depend on in time, never in value.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Family, model and stepping, where the system says so.
    pub(crate) cpu_family: Option<String>,
    /// Threads that the system runs at once for this process.
    pub(crate) threads: usize,
    /// The tier that `auto` means here.
    pub(crate) isa: &'static str,
    /// Every tier of this CPU.
    pub(crate) isas: Vec<&'static str>,
    /// Bytes of the last-level cache as reported.
    pub(crate) last_level_cache: Option<u64>,
    /// Bytes of memory.
    pub(crate) memory: Option<u64>,
    /// Mode of transparent huge pages: `always`, `madvise` or `never`.
    pub(crate) huge_pages: Option<String>,
    /// Operating system and, on Linux, its kernel.
    pub(crate) os: String,
    /// Architecture.
    pub(crate) arch: &'static str,
    /// Version of this program.
    pub(crate) version: &'static str,
    /// The compiler that built it.
    pub(crate) rustc: &'static str,
    /// The target that it was built for.
    pub(crate) target: &'static str,
    /// The commit that it was built from.
    pub(crate) commit: &'static str,
    /// Whether the program was built without optimisation, which makes every figure meaningless.
    pub(crate) debug_build: bool,
}

impl Machine {
    /// This machine. Fails when `MIXGEMM_ISA` names no tier.
    pub(crate) fn here() -> anyhow::Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let family = ["cpu family", "model", "stepping"].map(|key| value(&info, key));
        let kernel = first_line("/proc/sys/kernel/osrelease").map_or(String::new(), |k| format!(" {k}"));
        let named = ["model name", "Model"].into_iter().find_map(|key| value(&info, key));
        let supported = Isa::ALL.into_iter().filter(|isa| isa.supported());
        Ok(Self {
            cpu: named.unwrap_or_else(|| std::env::consts::ARCH.into()),
            cpu_family: family.into_iter().collect::<Option<Vec<_>>>().map(|f| f.join("/")),
            threads: thread::available_parallelism().map_or(1, usize::from),
            isa: best_isa()?.name(),
            isas: supported.map(Isa::name).collect(),
            last_level_cache: last_level_cache(),
            memory: memory(),
            huge_pages: first_line("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|m| selected(&m)),
            os: format!("{}{kernel}", std::env::consts::OS),
            arch: std::env::consts::ARCH,
            version: env!("CARGO_PKG_VERSION"),
            rustc: env!("MIXGEMM_RUSTC"),
            target: env!("MIXGEMM_TARGET"),
            commit: env!("MIXGEMM_COMMIT"),
            debug_build: cfg!(debug_assertions),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} threads, {}", self.cpu, self.threads, self.isa)?;
        if self.debug_build {
            f.write_str(", built WITHOUT OPTIMISATION: times mean nothing")?;
        }
        Ok(())
    }
}

/// The tier that `auto` means: the fastest one that `MIXGEMM_ISA` allows.
pub(crate) fn best_isa() -> anyhow::Result<Isa> {
    let cap = mixgemm::simd::cpu::cap_from_environment();
    let cap = cap.map_err(|found| option(Error::value("MIXGEMM_ISA", Isa::names(), found)))?;
    Ok(Isa::best(cap))
}

/// The value of the first line `key : value`.
pub(crate) fn value(info: &str, key: &str) -> Option<String> {
    info.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(k, _)| k.trim() == key)
        .map(|(_, v)| v.trim().to_owned())
}

/// The first line of a file of the system.
pub(crate) fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The word in brackets.
fn selected(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

/// The largest cache of the first core.
fn last_level_cache() -> Option<u64> {
    let size = |index: usize| first_line(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size"));
    (0..8).filter_map(size).filter_map(|s| bytes(&s)).max()
}

/// Bytes of a size such as `32768K`.
pub(crate) fn bytes(size: &str) -> Option<u64> {
    let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = size[..size.len() - unit.len()].parse().ok()?;
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes: u64 = value(&info, "MemTotal")?.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_spellings_are_read() {
        assert_eq!(
            value("model\t\t: 17\nmodel name\t: A B\n", "model name").as_deref(),
            Some("A B")
        );
        assert_eq!(selected("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(
            (bytes("32768K"), bytes("2M"), bytes("7X")),
            (Some(32 << 20), Some(2 << 20), None)
        );
    }
}
