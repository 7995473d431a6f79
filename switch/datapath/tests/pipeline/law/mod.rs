//! What is counted adds up, whatever is sent and however the switch is changed meanwhile: the property, as a plain function of bytes.
//!
//! The test of the counted run and the fuzz target `pipeline` share it.

mod dice;
mod frames;
mod policies;
mod world;

use dice::Dice;
use world::World;

/// Most things that are done in a case.
const STEPS: usize = 48;

/// Of what a case has seen something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub received: u64,
    pub sent: u64,
    pub dropped: u64,
    /// Frames whose trace was held against what became of them.
    pub traced: u64,
    /// Frames that captures saw come in.
    pub captured: u64,
}

/// Does to a switch what these bytes stand for.
///
/// # Panics
/// What is counted does not add up, a port got what it can't take, or a trace has said otherwise than what happened.
pub fn check(bytes: &[u8]) -> Outcome {
    let mut dice = Dice::new(bytes);
    let mut world = World::new(&mut dice);
    for _ in 0..STEPS {
        if dice.is_over() {
            break;
        }
        world.step(&mut dice);
    }
    world.close()
}
