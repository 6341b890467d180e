/// A mistake that is planted to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server takes a write for whatever version of an object it was made.
    AnyVersionIsTaken,
    /// The server drops the turns of a status.
    TurnsAreNotStored,
    /// Controllers use a turn as soon as they have decided it.
    TurnsAreUsedBeforeTheyAreStored,
    /// Controllers do not move the objects of turns on that nobody needs any more.
    NothingIsFenced,
    /// They end such turns all the same.
    TurnsEndUnfenced,
}
