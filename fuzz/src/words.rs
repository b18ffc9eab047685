//! Numbers for matrices of any size from a few bytes of input.
#![forbid(unsafe_code)]

use arbitrary::{Arbitrary, Result, Unstructured};
use mixgemm::testing::Draw;
use mixgemm::{ScaleType, f16};

/// Words without end: those that the input spells out, then repeatable random ones. The fuzzer can put any value at the
/// beginning of a matrix without paying for the rest.
#[derive(Debug, Clone, Arbitrary)]
pub struct Words {
    fill: Fill,
    seed: u16,
    spelled: Vec<u32>,
}

/// Which floats the random words become.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Fill {
    /// Any, NaN and infinities among them.
    Any,
    /// Finite ones, with exponent fields from `span` below `top` up to it. Spans are short, as those that decide between
    /// two slice counts are.
    Near {
        top: u8,
        #[arbitrary(with = |u: &mut Unstructured<'_>| u.int_in_range(0..=31))]
        span: u8,
    },
}

/// Words being taken.
#[derive(Debug)]
pub struct Stream<'a> {
    words: &'a Words,
    taken: usize,
    draw: Draw,
}

impl Words {
    /// The words from the first on.
    #[must_use]
    pub fn stream(&self) -> Stream<'_> {
        Stream {
            words: self,
            taken: 0,
            draw: Draw::new(self.seed.into()),
        }
    }
}

impl Stream<'_> {
    /// The next word, and how it is to become a float.
    fn next(&mut self) -> (u32, Fill) {
        self.taken += 1;
        match self.words.spelled.get(self.taken - 1) {
            Some(&word) => (word, Fill::Any),
            None => (self.draw.bits() as u32, self.words.fill),
        }
    }

    /// 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.next().0
    }

    /// A float of this width, as f32.
    pub fn float(&mut self, width: ScaleType) -> f32 {
        let (word, fill) = self.next();
        // The exponent field, of which the word's own picks one within the span.
        let exponent = |own: u32, infinite: u32| match fill {
            Fill::Any => own,
            Fill::Near { top, span } => {
                let top = u32::from(top) % infinite;
                top - (own % (u32::from(span) + 1)).min(top)
            }
        };
        let wide = word & 0x807F_FFFF | exponent(word >> 23 & 0xFF, 0xFF) << 23;
        match width {
            ScaleType::F32 => f32::from_bits(wide),
            ScaleType::Bf16 => f32::from_bits(wide & 0xFFFF_0000),
            ScaleType::F16 => {
                let half = word as u16 & 0x83FF | (exponent(word >> 10 & 0x1F, 0x1F) as u16) << 10;
                f16::from_bits(half).to_f32()
            }
        }
    }

    /// A finite float of this width, as f32.
    pub fn finite(&mut self, width: ScaleType) -> f32 {
        let x = self.float(width);
        // Without the highest bit of its exponent every float is finite.
        match width {
            _ if x.is_finite() => x,
            ScaleType::F16 => f16::from_bits(f16::from_f32(x).to_bits() & !0x4000).to_f32(),
            _ => f32::from_bits(x.to_bits() & !0x4000_0000),
        }
    }
}

/// `Some` for one input byte in sixteen, and never when the input has run out.
pub fn seldom<'a, T: Arbitrary<'a>>(u: &mut Unstructured<'a>) -> Result<Option<T>> {
    let chosen = u8::arbitrary(u)? >= 0xF0;
    chosen.then(|| T::arbitrary(u)).transpose()
}

/// An integer of `0..=MAX`.
pub fn up_to<const MAX: usize>(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(0..=MAX)
}
