//! Things that several threads borrow and give back, such as sets of buffers.
//!
//! A thread that finds none waits for one. Who has one must wait for nobody else who needs one, so
//! that no threads wait in a circle.

use super::unpoisoned;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex};

/// What is free now, and who waits for it.
#[derive(Debug, Default)]
pub struct Stock<T> {
    free: Mutex<Vec<T>>,
    returned: Condvar,
}

impl<T> Stock<T> {
    /// Makes a stock of these. Without any, a borrower waits for what [`Stock::lend`] brings in.
    pub fn new(free: Vec<T>) -> Self {
        Self { free: Mutex::new(free), returned: Condvar::new() }
    }

    /// Borrows one if one is free.
    pub fn try_borrow(&self) -> Option<Borrowed<'_, T>> {
        unpoisoned(self.free.lock()).pop().map(|thing| self.lend(thing))
    }

    /// Borrows one, waiting until one is free.
    pub fn borrow(&self) -> Borrowed<'_, T> {
        let mut free = unpoisoned(self.free.lock());
        loop {
            if let Some(thing) = free.pop() {
                return self.lend(thing);
            }
            free = unpoisoned(self.returned.wait(free));
        }
    }

    /// Lends a new one, which joins the stock when it is given back.
    pub fn lend(&self, thing: T) -> Borrowed<'_, T> {
        Borrowed { stock: self, thing: Some(thing) }
    }
}

/// Something borrowed; it goes back when dropped.
#[derive(Debug)]
pub struct Borrowed<'a, T> {
    stock: &'a Stock<T>,
    thing: Option<T>,
}

impl<T> Deref for Borrowed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().unwrap_or_else(|| unreachable!("taken only when dropped"))
    }
}

impl<T> DerefMut for Borrowed<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().unwrap_or_else(|| unreachable!("taken only when dropped"))
    }
}

impl<T> Drop for Borrowed<'_, T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            unpoisoned(self.stock.free.lock()).push(thing);
            self.stock.returned.notify_one();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_is_lent_joins_the_stock_and_none_is_lost() {
        let stock = Stock::new(vec![1]);
        let first = stock.try_borrow().expect("one is free");
        assert!(stock.try_borrow().is_none());
        drop(stock.lend(2));
        assert_eq!(*stock.borrow(), 2);
        drop(first);
        let both = [stock.borrow(), stock.borrow()];
        assert_eq!(both.iter().map(|thing| **thing).sum::<i32>(), 3);
    }

    #[test]
    fn threads_wait_for_the_few_there_are() {
        let stock = Stock::new(vec![0u32, 0]);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let mut count = stock.borrow();
                        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        *count += 1;
                        now.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!([stock.borrow(), stock.borrow()].iter().map(|count| **count).sum::<u32>(), 1600);
    }
}
