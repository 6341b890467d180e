//! Cutting GPUs, call by call of the C interface.

mod calls;
mod device;
mod elsewhere;
mod life;
mod profiles;
