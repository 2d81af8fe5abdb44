use crate::universe::Provider;

/// What a task asks of a package beyond its being chosen; set on names and inherited by
/// dependencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const UPGRADE: Self = Self(1);
    pub(crate) const AVAILABLE: Self = Self(2);
    pub(crate) const LATEST: Self = Self(4);
    pub(crate) const REINSTALL: Self = Self(8);
    pub(crate) const REMOVE: Self = Self(16);
    pub(crate) const INSTALLED: Self = Self(32);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn when(self, condition: bool) -> Self {
        if condition { self } else { Self(0) }
    }
}

/// Where a name waits to be decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Queue {
    #[default]
    None,
    /// One candidate is left and everything that could ask for the name is decided.
    ResolveNow,
    /// A candidate can be chosen without being named explicitly.
    Selectable,
    Unresolved,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct NameState {
    pub(crate) seen: bool,
    /// Decided: `chosen` is final.
    pub(crate) locked: bool,
    pub(crate) chosen: Option<Provider>,
    /// How many constraints ask for the name.
    pub(crate) requirers: u32,
    pub(crate) order: u32,
    /// The task names it.
    pub(crate) named: bool,
    pub(crate) queue: Queue,
    pub(crate) dirty: bool,
    pub(crate) reevaluate_depends: bool,
    pub(crate) reevaluate_install_if: bool,
    pub(crate) reverse_depends_done: bool,
    pub(crate) has_options: bool,
    pub(crate) has_selectable: bool,
    pub(crate) has_install_if: bool,
    /// No provider's install_if can come true any more.
    pub(crate) no_install_if: bool,
    /// An install_if rule waits to hear that nothing is installed for the name.
    pub(crate) install_if_needed: bool,
    pub(crate) has_virtual_provides: bool,
    /// How many options in a row had the name among their depends.
    pub(crate) merge_depends: u32,
    /// How many options in a row provide the name.
    pub(crate) merge_provides: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PackageState {
    pub(crate) seen: bool,
    /// How many of its provides, from the first, are discovered: the walk comes by once per name that
    /// the package provides.
    pub(crate) discovered_provides: u32,
    /// Not to be chosen on this attempt.
    pub(crate) excluded: bool,
    pub(crate) flags: Flags,
    pub(crate) inheritable_flags: Flags,
    /// One bit per tag whose repositories the package may come from.
    pub(crate) pins: u64,
    /// How many constraints it fails.
    pub(crate) conflicts: u32,
    pub(crate) available: bool,
    pub(crate) selectable: bool,
    pub(crate) tag_preferred: bool,
    pub(crate) tag_allowed: bool,
    pub(crate) install_if_failed: bool,
    pub(crate) install_if_triggered: bool,
    pub(crate) depends_merged: bool,
    pub(crate) depends_used: bool,
    pub(crate) error: bool,
}
