//! Buffers that wait for their next use: a call borrows a set of them for its time, and clones of the pool share them.
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
use alloc::{sync::Arc, vec::Vec};
use core::fmt;
#[cfg(feature = "std")]
use std::sync::{Mutex, PoisonError};

/// A pool of buffers. There are as many as calls that ran at the same time; no lock is held while one is lent. Without the
/// feature `std` every call gets a new one.
///
/// ```
/// use mixgemm::base::idle::Idle;
/// let idle = Idle::<Vec<u8>>::default();
/// idle.with(|buffer| buffer.push(1));
/// assert_eq!(idle.with(|buffer| buffer.len()), 1);
/// ```
pub struct Idle<T> {
    #[cfg(feature = "std")]
    idle: Arc<Mutex<Vec<T>>>,
    #[cfg(not(feature = "std"))]
    idle: core::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for Idle<T> {
    fn clone(&self) -> Self {
        Self {
            idle: Clone::clone(&self.idle),
        }
    }
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self {
            idle: Default::default(),
        }
    }
}

impl<T: Default> Idle<T> {
    /// Lends a set of buffers that nobody else has.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut buffers = self.take();
        let result = work(&mut buffers);
        self.put_back(buffers);
        result
    }

    #[cfg(feature = "std")]
    fn take(&self) -> T {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().unwrap_or_default()
    }

    #[cfg(feature = "std")]
    fn put_back(&self, buffers: T) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(buffers);
    }

    #[cfg(not(feature = "std"))]
    fn take(&self) -> T {
        T::default()
    }

    #[cfg(not(feature = "std"))]
    fn put_back(&self, _: T) {}
}

impl<T> fmt::Debug for Idle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Idle")
    }
}
