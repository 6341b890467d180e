use tonic::Status;

/// Why a pod does not get on. Texts are close to the real kubelet's, which puts them into an event of the pod.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Problem {
    /// The API server did not give the claim.
    #[error("fetch ResourceClaim {claim}: {reason}")]
    Unreadable {
        /// The claim's name.
        claim: String,
        /// What came instead.
        reason: String,
    },
    /// The scheduler has not allocated the claim.
    #[error("ResourceClaim {0} is not allocated")]
    NotAllocated(String),
    /// A driver of the claim has not registered, or not any more.
    #[error("DRA driver {0} is not registered")]
    NotRegistered(String),
    /// An older claim of that name is not undone yet.
    #[error(
        "old ResourceClaim with same name {claim} and different UID {old} still exists (previous pod force-deleted?!)"
    )]
    OldClaim {
        /// The claim's name.
        claim: String,
        /// The UID of the older one.
        old: String,
    },
    /// The claim is being undone, or that failed (from 1.37 on).
    #[error("ResourceClaim {0} is being unprepared")]
    BeingUnprepared(String),
    /// A call failed as a whole.
    #[error("{driver}: rpc failed: {status}")]
    Call {
        /// Which driver was called.
        driver: String,
        /// How it ended.
        status: Status,
    },
    /// The driver said no for one claim.
    #[error("{driver}: failed for ResourceClaim {claim}: {error}")]
    Refused {
        /// Which driver.
        driver: String,
        /// The claim's name.
        claim: String,
        /// The reason in the answer.
        error: String,
    },
    /// The driver's answer breaks the protocol.
    #[error("{driver}: {flaw}")]
    Flawed {
        /// Which driver.
        driver: String,
        /// What is wrong with the answer.
        flaw: Flaw,
    },
    /// The kubelet ended meanwhile.
    #[error("the kubelet ended")]
    Ended,
}

/// What can be wrong with an answer. The kubelet notices the first two. It keeps the others to itself, and the container
/// runtime or whoever reads pod resources fails on them later; a test should hear of them at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The answer is about a claim that nobody asked for.
    #[error("driver returned a result for the claim UID {0:?}, which was not requested")]
    Unasked(String),
    /// The answer says nothing about some claims.
    #[error("driver skipped {0} ResourceClaims")]
    Skipped(usize),
    /// A device has no pool or no name.
    #[error("a device of ResourceClaim {0} has no pool or no name")]
    Nameless(String),
    /// A CDI id is not of the form `vendor/class=name`.
    #[error("{0:?} is no CDI id")]
    CdiId(String),
    /// A device is for a request that the claim's allocation does not have, or that is written with its subrequest.
    #[error("ResourceClaim {claim} has no request {request:?}")]
    Request {
        /// The claim's name.
        claim: String,
        /// What the device is said to be for.
        request: String,
    },
}
