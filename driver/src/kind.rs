/// What an accelerator is, whoever made it. What a claim can say about its set-up depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceleratorKind {
    /// A GPU.
    Gpu,
    /// A TPU chip.
    Tpu,
}
