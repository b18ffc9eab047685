//! The configuration of the simulator of MixPE's authors (`conf_mixint.ini` and its siblings), and what things cost.
#![forbid(unsafe_code)]

use crate::cli::refusal::refusal;
use crate::cli::simulate::config::Entries;
use anyhow::Result;
use mixgemm::accel::cost::sram;
use serde::Serialize;
use std::fmt;

/// The sections of the file.
const SYSTEM: &str = "system";
const ACCELERATOR: &str = "accelerator";

/// Power of an element at 500 MHz by the most and fewest bits it takes, in nW: leaking and switching. From the
/// simulator's `results/systolic_array_synth.csv`, whose areas are all 1.
const POWERS: [([u32; 2], [f64; 2]); 4] = [
    ([8, 4], [64_314.0, 279_960.0]),
    ([6, 6], [28_458.0, 123_882.0]),
    ([16, 16], [192_942.0, 839_982.0]),
    ([16, 8], [128_458.0, 544_982.0]),
];
/// The clock that these powers and DRAM's are at, in Hz.
const SYNTHESIS_HZ: f64 = 5e8;

/// Scratchpads of activations and weights have so many banks with ports of so many bytes, priced by CACTI at 28 nm.
const BANKS: u64 = 32;
const WORD_BYTES: u64 = 64;
/// That of outputs has 1024 banks of 128 bytes with ports of 4 bytes, one to read, one to write and one for both; the
/// energies, which CACTI gives for such a bank, are those of the simulator's `bitfusion/sram/cacti_sweep.csv`.
const OUTPUTS: Pad = Pad::new(1024 * 128, 4, 0.294_945, 0.415_925);

/// DRAM: background energy in nJ per cycle and energy in nJ per bit, read and written, in the reports.
pub(super) const REPORTED: Dram = Dram {
    cycle: 484.615 / 500.0,
    read: 0.644_304 / 1024.0,
    written: 0.784_104 / 1024.0,
};
/// The same where tilings of equal cycles are compared.
pub(super) const SEARCHED: Dram = Dram {
    cycle: 3838.05 / 500_000.0,
    read: 1.182_94 / 1024.0,
    written: 1.477_97 / 1024.0,
};

/// Energies of DRAM in nJ.
pub(super) struct Dram {
    pub(super) cycle: f64,
    pub(super) read: f64,
    pub(super) written: f64,
}

/// Energies of a scratchpad in nJ per bit.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Pad {
    pub(super) bytes: u64,
    pub(super) read_nj_per_bit: f64,
    pub(super) write_nj_per_bit: f64,
}

impl Pad {
    /// From the energies of a word.
    const fn new(bytes: u64, word_bytes: u64, read_pj: f64, write_pj: f64) -> Self {
        let bits = (8 * word_bytes) as f64;
        Self {
            bytes,
            read_nj_per_bit: read_pj * 1e-3 / bits,
            write_nj_per_bit: write_pj * 1e-3 / bits,
        }
    }
}

/// An array with its scratchpads and channel.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// Elements along the batch, and along outputs.
    pub(super) rows: u64,
    pub(super) cols: u64,
    /// The widest operands of an element, and the narrowest that make it do several products at once.
    pub(super) high_bits: u32,
    pub(super) low_bits: u32,
    /// DRAM interface in bits per cycle.
    pub(super) bits_per_cycle: u64,
    /// Activations, weights, outputs; half of each is usable.
    pub(super) pads: [Pad; 3],
    /// Energy of all elements in nJ per cycle: leaking always, switching unless stalled.
    pub(super) leaking_nj: f64,
    pub(super) switching_nj: f64,
}

impl Machine {
    pub(super) fn parse(file: &str, text: &str) -> Result<Self> {
        let entries = Entries::parse(file, text)?;
        let number = |section, key, most: u64| entries.get(section, key)?.number(file, 1, most);
        let bits = |key| entries.get(ACCELERATOR, key)?.number(file, 1, 64u32);
        let (rows, cols) = (number(ACCELERATOR, "a", 1 << 14)?, number(ACCELERATOR, "c", 1 << 14)?);
        let (high_bits, low_bits) = (bits("high_prec")?, bits("low_prec")?);
        let hertz = number(ACCELERATOR, "frequency", u64::MAX)? as f64;
        if hertz != SYNTHESIS_HZ {
            let expected = format!("{SYNTHESIS_HZ}, the clock of its table of powers");
            return Err(entries.get(ACCELERATOR, "frequency")?.refused(file, expected));
        }
        let known = POWERS.iter().find(|(bits, _)| *bits == [high_bits, low_bits]);
        let Some((_, [leaking, switching])) = known else {
            let known: Vec<String> = POWERS.iter().map(|([high, low], _)| format!("{high}/{low}")).collect();
            let found = format_args!("{high_bits}/{low_bits} in {file}").to_string();
            let expected = format!("high_prec/low_prec: one of {}", known.join(", "));
            return Err(refusal("--config", expected, found));
        };
        let pad = |key| -> Result<Pad> {
            let bytes = number(ACCELERATOR, key, 1 << 40)?;
            let found = entries.get(ACCELERATOR, key)?;
            if !bytes.is_multiple_of(BANKS * WORD_BYTES) {
                return Err(found.refused(file, format_args!("a multiple of {} bytes", BANKS * WORD_BYTES)));
            }
            let bank = sram::bank((bytes / BANKS) as f64, WORD_BYTES as f64, 28.0);
            let bank =
                bank.map_err(|e| found.refused(file, format_args!("{BANKS} banks that CACTI's table has ({e})")))?;
            Ok(Pad::new(bytes, WORD_BYTES, bank.read_pj, bank.write_pj))
        };
        let outputs = entries.get(ACCELERATOR, "Out_SRAM")?;
        if outputs.number::<u64>(file, 1, 1 << 40)? != OUTPUTS.bytes {
            return Err(outputs.refused(
                file,
                format_args!("{}, the one size with known energies", OUTPUTS.bytes),
            ));
        }
        let all = |nanowatts: f64| nanowatts * (rows * cols) as f64 / SYNTHESIS_HZ;
        Ok(Self {
            rows,
            cols,
            high_bits,
            low_bits,
            bits_per_cycle: number(SYSTEM, "if_width", 1 << 20)?,
            pads: [pad("Act_SRAM")?, pad("Wgt_SRAM")?, OUTPUTS],
            leaking_nj: all(*leaking),
            switching_nj: all(*switching),
        })
    }

    /// Rows or columns that one element stands for at this precision.
    pub(super) fn products(&self, bits: u32) -> u64 {
        u64::from(self.high_bits / bits.max(self.low_bits))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [act, wgt, out] = self.pads.map(|pad| pad.bytes / 1024);
        write!(
            f,
            "{} x {} elements of {} to {} bits, output stationary; scratchpads: activations {act} KiB, weights {wgt} KiB, \
             outputs {out} KiB, half usable; DRAM {} bits per cycle",
            self.rows, self.cols, self.low_bits, self.high_bits, self.bits_per_cycle
        )
    }
}
