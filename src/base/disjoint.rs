//! Many threads, one buffer: parts of a `&mut` that are claimed one by one, each by exactly one thread.
//!
//! Claiming is an atomic counter, so a part can be handed out only once; that makes both types sound whatever their
//! users do.

use crate::base::view::MatMut;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The next unclaimed index below `len`.
fn claim(next: &AtomicUsize, len: usize) -> Option<usize> {
    // The load keeps the counter from growing once everything is claimed.
    if next.load(Ordering::Relaxed) >= len {
        return None;
    }
    let i = next.fetch_add(1, Ordering::Relaxed);
    (i < len).then_some(i)
}

/// The elements of a slice, each claimed by one thread.
#[derive(Debug)]
pub struct Claims<'a, T> {
    base: *mut T,
    len: usize,
    next: AtomicUsize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: sharing must not let two threads reach one element. `next` is the only access and `claim` returns an index
// once, so an element is reached by one thread, for which `T: Send` is enough. `every_element_is_claimed_once` would see
// a repeated index.
unsafe impl<T: Send> Sync for Claims<'_, T> {}

// SAFETY: as for `Sync`: the claims carry exclusive access to elements that may change threads because `T: Send`. The
// same test covers it.
unsafe impl<T: Send> Send for Claims<'_, T> {}

impl<'a, T> Claims<'a, T> {
    /// Claims over a slice.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self {
            base: slice.as_mut_ptr(),
            len: slice.len(),
            next: AtomicUsize::new(0),
            borrow: PhantomData,
        }
    }

    /// The next element and its index, or `None` when all are claimed.
    pub fn next(&self) -> Option<(usize, &'a mut T)> {
        let i = claim(&self.next, self.len)?;
        // SAFETY: the pointer must be in bounds and the reference exclusive for 'a. `i < len` of the slice borrowed for
        // 'a, and `claim` returns each index once. `every_element_is_claimed_once` would see a repeat.
        Some((i, unsafe { &mut *self.base.add(i) }))
    }
}

/// A matrix cut into rectangles, each claimed by one thread, column strip after column strip.
#[derive(Debug)]
pub struct TileGrid<'a, T> {
    base: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    tile_rows: usize,
    tile_cols: usize,
    next: AtomicUsize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: sharing must not let two threads reach one element. `next` hands out each rectangle once and rectangles are
// disjoint. `rectangles_cover_the_matrix_once` would see an overlap.
unsafe impl<T: Send> Sync for TileGrid<'_, T> {}

// SAFETY: as for `Sync`: exclusive access to elements that may change threads because `T: Send`. The same test covers
// it.
unsafe impl<T: Send> Send for TileGrid<'_, T> {}

impl<'a, T> TileGrid<'a, T> {
    /// Cuts a matrix into rectangles of at most `tile_rows × tile_cols`, both at least 1.
    pub fn new(mut matrix: MatMut<'a, T>, tile_rows: usize, tile_cols: usize) -> Self {
        let (rows, cols, stride) = (matrix.rows(), matrix.cols(), matrix.stride());
        let base = matrix.as_mut_ptr();
        let (tile_rows, tile_cols) = (tile_rows.max(1), tile_cols.max(1));
        Self {
            base,
            rows,
            cols,
            stride,
            tile_rows,
            tile_cols,
            next: AtomicUsize::new(0),
            borrow: PhantomData,
        }
    }

    /// The next rectangle, or `None` when all are claimed.
    pub fn next(&self) -> Option<TileMut<'a, T>> {
        let strips = self.cols.div_ceil(self.tile_cols);
        let blocks = self.rows.div_ceil(self.tile_rows);
        let i = claim(&self.next, strips * blocks)?;
        let (strip, block) = (i / blocks, i % blocks);
        let rows = block * self.tile_rows..((block + 1) * self.tile_rows).min(self.rows);
        let cols = strip * self.tile_cols..((strip + 1) * self.tile_cols).min(self.cols);
        Some(TileMut {
            base: self.base,
            stride: self.stride,
            rows,
            cols,
            borrow: PhantomData,
        })
    }
}

/// One rectangle of a matrix.
#[derive(Debug)]
pub struct TileMut<'a, T> {
    base: *mut T,
    stride: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> TileMut<'_, T> {
    /// Its rows in the matrix.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Its columns in the matrix.
    #[must_use]
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// Columns `cols` of row `row`, both counted in the matrix. Panics outside the rectangle.
    #[must_use]
    pub fn row_mut(&mut self, row: usize, cols: Range<usize>) -> &mut [T] {
        assert!(
            self.rows.contains(&row) && cols.start <= cols.end,
            "row {row} of rows {:?}",
            self.rows
        );
        assert!(
            self.cols.start <= cols.start && cols.end <= self.cols.end,
            "columns {cols:?} of {:?}",
            self.cols
        );
        // SAFETY: the range must lie in the borrowed slice and no other reference may reach it. The assertions keep it
        // in this rectangle, which is inside the matrix, was handed out once and is borrowed by `&mut self`.
        // `rectangles_cover_the_matrix_once` would see an overlap or an out-of-bounds element.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(row * self.stride + cols.start), cols.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use std::thread::scope;

    #[test]
    fn every_element_is_claimed_once() {
        let mut counts = vec![0u32; 1000];
        let claims = Claims::new(&mut counts);
        let work = || {
            while let Some((i, count)) = claims.next() {
                *count += 1 + i as u32;
            }
        };
        scope(|s| {
            s.spawn(work);
            s.spawn(work);
            work();
        });
        assert!(counts.iter().enumerate().all(|(i, &c)| c == 1 + i as u32));
    }

    #[test]
    fn rectangles_cover_the_matrix_once() {
        for (rows, cols, stride, tile_rows, tile_cols) in [(7, 10, 13, 3, 4), (1, 33, 33, 12, 32), (0, 5, 5, 2, 2)] {
            let mut data = vec![0u8; rows * stride];
            let grid = TileGrid::new(
                MatMut::with_stride(&mut data, rows, cols, stride).unwrap(),
                tile_rows,
                tile_cols,
            );
            let work = || {
                while let Some(mut tile) = grid.next() {
                    for r in tile.rows() {
                        let cols = tile.cols();
                        tile.row_mut(r, cols).iter_mut().for_each(|x| *x += 1);
                    }
                }
            };
            scope(|s| {
                s.spawn(work);
                work();
            });
            for (i, &x) in data.iter().enumerate() {
                assert_eq!(x, u8::from(i % stride < cols), "element {i}");
            }
        }
    }
}
