//! What histories of rollouts brought to light, each as a scene of its own.

use std::time::Duration;

use novita_sim::{Fault, Op, What};
use respot::cli::RolloutVerb;
use respot::core::rollout::course::{Course, MemberState, RolloutEnd};
use respot::core::world::time::Timestamp;
use respot::store::records;
use tokio::time::sleep;

use crate::rollouts::{Scene, app};

const MINUTES: Duration = Duration::from_secs(60);

fn scene(count: usize) -> Scene {
    let course = Course { stages: vec![100], soaks: vec![5 * MINUTES], samples: 30, ..Course::default() };
    Scene { course, ..Scene::of(count, &app()) }
}

impl Scene {
    /// Calls until the last rollout is in this state; answers how often.
    async fn until(&self, state: &str) -> usize {
        for calls in 0..60 {
            if calls > 0 && self.fleet().await.rollout.state.as_str() == state {
                return calls;
            }
            self.call().await.unwrap();
            sleep(5 * MINUTES).await;
        }
        panic!("never {state}: {:?}", self.fleet().await.rollout.state);
    }

    fn statuses(&self, mode: &str) -> Vec<String> {
        let world = self.provider.world();
        world.machines().filter(|it| it.billing_mode == mode).map(|it| it.status.clone()).collect()
    }

    async fn open_recreations(&self) -> usize {
        records::journal(&self.store, Timestamp::LATEST).await.unwrap().values().filter(|it| !it.step.is_over()).count()
    }
}

/// A deletion that takes long is seen by the look of a later call, which writes nothing to the provider.
#[tokio::test(start_paused = true)]
async fn what_was_moved_is_managed_again_whoever_saw_the_end_of_it() {
    let scene = scene(1);
    scene.until("retiring").await;
    // The answer is there, and then the provider is not to be seen until the next call.
    scene.provider.world().fault(Fault::on(Op::Get, What::CutBefore).nth(3).times(20));
    scene.call().await.unwrap();
    scene.provider.world().clear_faults();
    sleep(5 * MINUTES).await;
    scene.until("completed").await;
    assert_eq!(scene.open_recreations().await, 0);
    scene.provider.world().reclaim_wave(1.0);
    for _ in 0..3 {
        sleep(5 * MINUTES).await;
        scene.pass().await;
    }
    assert_eq!(scene.statuses("spot"), ["running"]);
}

/// What cannot be put back is left to passes.
#[tokio::test(start_paused = true)]
async fn what_is_stranded_is_managed_again() {
    let mut scene = scene(2);
    scene.course.stages = vec![100];
    scene.until("retiring").await;
    // One of the two is gone when a person ends it, and there is no room to make it anew.
    scene.provider.world().fault(Fault::on(Op::Delete, What::Refuse).nth(2).times(20));
    scene.call().await.unwrap();
    scene.provider.world().clear_faults();
    scene.provider.world().set_stock(0);
    scene.drive(async |drive| drive.apply(RolloutVerb::Abort { wait: false }).await).await.unwrap();
    sleep(5 * MINUTES).await;
    for _ in 0..8 {
        scene.call().await.unwrap();
        sleep(5 * MINUTES).await;
    }
    let fleet = scene.fleet().await;
    assert_eq!(fleet.rollout.state.end(), Some(RolloutEnd::Failed), "{fleet:?}");
    assert_eq!(fleet.count(MemberState::Stranded), 1, "{fleet:?}");
    assert_eq!(scene.open_recreations().await, 0);
    scene.provider.world().set_stock(u32::MAX);
    scene.provider.world().reclaim_wave(1.0);
    for _ in 0..3 {
        sleep(5 * MINUTES).await;
        scene.pass().await;
    }
    assert_eq!((scene.statuses("spot"), scene.statuses("onDemand")), (vec!["running".into()], vec!["running".into()]));
}

/// The schedule was away for longer than a stage may take.
#[tokio::test(start_paused = true)]
async fn a_weekend_without_a_call_fails_nothing() {
    let scene = scene(3);
    for _ in 0..8 {
        scene.call().await.unwrap();
        sleep(60 * 60 * MINUTES).await;
    }
    let fleet = scene.fleet().await;
    assert_eq!(fleet.rollout.state.end(), Some(RolloutEnd::Completed), "{fleet:?}");
}
