//! A schedule as it is told: what graphs plan, recorders keep, and pages draw.

/// A value that leaves memory or comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MovedValue {
    /// The task that made it, or its name where it was given.
    pub value: String,
    /// Bytes that are written or read.
    pub bytes: u64,
}

/// One start of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Step {
    /// The task that starts.
    pub task: String,
    /// Whether it waits for the disk.
    pub is_of_disk: bool,
    /// Bytes that it may use beyond the values.
    pub room_bytes: u64,
    /// Bytes that it could use at best.
    pub best_bytes: u64,
    /// Bytes that are booked once it has started.
    pub booked_bytes: u64,
    /// Tasks that run when it starts.
    pub beside: Vec<String>,
    /// Steps, counted from its own, before it ends.
    pub steps: usize,
    /// Values that leave before it starts.
    pub leave: Vec<MovedValue>,
    /// Values that it needs and that have left.
    pub come: Vec<MovedValue>,
    /// Values for the next step that are read in meanwhile.
    pub prefetch: Vec<String>,
}

/// A schedule's figures and starts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Planned {
    /// The graph's name.
    pub graph: String,
    /// The budget in bytes.
    pub budget_bytes: u64,
    /// The most bytes that are booked at once.
    pub peak_bytes: u64,
    /// The smallest budget in bytes that would do.
    pub smallest_bytes: u64,
    /// The starts, in their order.
    pub steps: Vec<Step>,
}

impl Planned {
    pub(crate) fn new(graph: &str, [budget, peak, smallest]: [u64; 3], steps: Vec<Step>) -> Self {
        let graph = graph.to_owned();
        Self { graph, budget_bytes: budget, peak_bytes: peak, smallest_bytes: smallest, steps }
    }
}

impl Step {
    /// A start whose lists are empty.
    pub(crate) fn new(task: &str, is_of_disk: bool, steps: usize) -> Self {
        Self {
            task: task.to_owned(),
            is_of_disk,
            room_bytes: 0,
            best_bytes: 0,
            booked_bytes: 0,
            beside: Vec::new(),
            steps,
            leave: Vec::new(),
            come: Vec::new(),
            prefetch: Vec::new(),
        }
    }
}
