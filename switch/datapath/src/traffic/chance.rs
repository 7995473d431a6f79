//! What happens by chance on an impaired line.

use vswitch_api::traffic::{Distribution, Impairment, Share};

/// Nanoseconds of a microsecond.
const MICROSECOND: u64 = 1000;
/// Deviations at which the tails of the distributions are cut off, as netem's tables are.
const TAIL: f64 = 4.0;
/// Shape of the Pareto distribution, as that of netem's table, with its mean and standard deviation.
const SHAPE: f64 = 3.0;
const PARETO_MEAN: f64 = SHAPE / (SHAPE - 1.0);
/// Square root of 3/4, the variance `a / ((a - 1)^2 (a - 2))`.
const PARETO_DEVIATION: f64 = 0.866_025_403_784_438_6;

/// The random numbers of one line, and whether it is in a burst of losses.
#[derive(Debug)]
pub struct Chance {
    random: fastrand::Rng,
    losing: bool,
}

impl Chance {
    /// Random numbers that are always the same for a seed.
    pub fn new(seed: Option<u32>) -> Self {
        Self {
            random: seed.map_or_else(fastrand::Rng::new, |seed| fastrand::Rng::with_seed(seed.into())),
            losing: false,
        }
    }

    /// Whether this frame is one of the share. For none no number is drawn: the others stay the same.
    pub fn hits(&mut self, share: Share) -> bool {
        !share.is_none() && self.random.u32(..Share::WHOLE) < share.ppm()
    }

    /// Whether this frame is lost. With bursts: the model of Gilbert (1960), in which a line is in order or loses
    /// everything; `loss_burst` frames is the mean length of the second.
    pub fn loses(&mut self, settings: &Impairment) -> bool {
        let Some(burst) = settings.loss_burst.filter(|_| !settings.loss.is_none()) else {
            return self.hits(settings.loss);
        };
        if settings.loss == Share::ALL {
            return true;
        }
        let (loss, burst) = (settings.loss.fraction(), f64::from(burst.max(1)));
        let turns = if self.losing {
            1.0 / burst
        } else {
            // So that the share of time in the losing state is `loss`.
            loss / (burst * (1.0 - loss))
        };
        if self.random.f64() < turns {
            self.losing = !self.losing;
        }
        self.losing
    }

    /// How long this frame is held back, in nanoseconds.
    pub fn delay(&mut self, settings: &Impairment) -> u64 {
        let delay = u64::from(settings.delay_us) * MICROSECOND;
        if settings.jitter_us == 0 {
            return delay;
        }
        let jitter = f64::from(settings.jitter_us) * MICROSECOND as f64;
        let deviation = match settings.distribution {
            Distribution::Uniform => 2.0 * self.random.f64() - 1.0,
            Distribution::Normal => self.normal(),
            Distribution::Pareto => {
                // 1 - x is never 0.
                let x = (1.0 - self.random.f64()).powf(-1.0 / SHAPE);
                ((x - PARETO_MEAN) / PARETO_DEVIATION).min(TAIL)
            }
        };
        // A negative delay becomes 0 by the conversion.
        (delay as f64 + jitter * deviation).round() as u64
    }

    /// The method of Box and Muller (1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.random.f64()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.random.f64();
        (radius * angle.cos()).clamp(-TAIL, TAIL)
    }

    /// Flips one bit.
    pub fn flip(&mut self, frame: &mut [u8]) {
        if !frame.is_empty() {
            let byte = self.random.usize(..frame.len());
            frame[byte] ^= 1 << self.random.u32(..8);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loss(ppm: u32, burst: Option<u32>) -> Impairment {
        Impairment {
            loss: Share::from_ppm(ppm).unwrap(),
            loss_burst: burst,
            ..Impairment::default()
        }
    }

    /// Which of `frames` frames are lost.
    fn fates(settings: &Impairment, frames: usize) -> Vec<bool> {
        let mut chance = Chance::new(Some(7));
        (0..frames).map(|_| chance.loses(settings)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_losses() {
        let settings = loss(300_000, None);
        let lost = fates(&settings, 1000);
        assert_eq!(lost, fates(&settings, 1000));
        let count = lost.iter().filter(|lost| **lost).count();
        // Four standard deviations of the binomial distribution.
        assert!((242..=358).contains(&count), "{count}");
        assert!(fates(&loss(1_000_000, None), 100).iter().all(|lost| *lost));
        assert!(fates(&loss(1_000_000, Some(3)), 100).iter().all(|lost| *lost));
        assert!(!fates(&loss(0, Some(3)), 100).iter().any(|lost| *lost));
    }

    #[test]
    fn losses_come_in_bursts_of_the_length_that_is_set() {
        for (ppm, burst) in [(10_000, 5), (200_000, 3), (500_000, 20), (100_000, 1)] {
            let lost = fates(&loss(ppm, Some(burst)), 1_000_000);
            let count = lost.iter().filter(|lost| **lost).count() as f64;
            let starts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
            let (share, mean) = (count / 1e6, count / starts);
            // About 10,000 bursts at the least: 5 % is many deviations.
            assert!((share * 1e6 / f64::from(ppm) - 1.0).abs() < 0.06, "{ppm} ppm: {share}");
            // A burst of 1 may be followed by the next at once only through the good state.
            assert!((mean / f64::from(burst) - 1.0).abs() < 0.06, "{burst}: {mean}");
        }
    }

    #[test]
    fn delays_have_the_mean_and_the_deviation_that_are_set() {
        for (distribution, deviation) in [
            (Distribution::Uniform, 1.0 / 3f64.sqrt()),
            (Distribution::Normal, 1.0),
            // The tail that is cut off takes a part of it.
            (Distribution::Pareto, 0.75),
        ] {
            let settings = Impairment {
                delay_us: 100_000,
                jitter_us: 5000,
                distribution,
                ..Impairment::default()
            };
            let mut chance = Chance::new(Some(1));
            let delays: Vec<_> = (0..200_000).map(|_| chance.delay(&settings) as f64 / 1e6).collect();
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            let variance = delays.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / delays.len() as f64;
            assert!((mean - 100.0).abs() < 0.3, "{distribution}: {mean}");
            assert!(
                (variance.sqrt() / 5.0 - deviation).abs() < 0.1,
                "{distribution}: {}",
                variance.sqrt()
            );
            assert!(
                delays.iter().all(|delay| (80.0..=120.0).contains(delay)),
                "{distribution}"
            );
        }
    }

    proptest! {
        #[test]
        fn exactly_one_bit_flips(mut frame in prop::collection::vec(any::<u8>(), 1..200), seed: u32) {
            let before = frame.clone();
            Chance::new(Some(seed)).flip(&mut frame);
            let bits: u32 = frame.iter().zip(&before).map(|(a, b)| (a ^ b).count_ones()).sum();
            prop_assert_eq!(bits, 1);
        }

        #[test]
        fn a_delay_is_never_negative(delay_us in 0u32..100, jitter_us in 0u32..60_000_000, seed: u32) {
            let settings = Impairment { delay_us, jitter_us, distribution: Distribution::Normal, ..Impairment::default() };
            let delay = Chance::new(Some(seed)).delay(&settings);
            prop_assert!(delay <= u64::from(delay_us) * 1000 + u64::from(jitter_us) * 4000);
        }
    }
}
