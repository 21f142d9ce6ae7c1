//! Planted bugs. The simulator is tested with them: each must be found. They are compiled in only with the feature `planted`, which nothing but the
//! simulator's tests turns on; without it every hook is the constant `false`.

#[cfg(feature = "planted")]
std::thread_local! {
    static PLANTED: core::cell::Cell<&'static str> = const { core::cell::Cell::new("") };
}

/// Whether the bug of this name is planted in this thread.
#[cfg(feature = "planted")]
pub fn is(name: &str) -> bool {
    PLANTED.get() == name
}

/// No bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}

/// Plants a bug in this thread, or none for an empty name. Returns whether that is possible at all.
pub fn set(_name: &'static str) -> bool {
    #[cfg(feature = "planted")]
    PLANTED.set(_name);
    cfg!(feature = "planted")
}
