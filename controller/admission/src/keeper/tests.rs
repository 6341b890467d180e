use super::*;
use crate::certificates::{AUTHORITY_LIFE, LEAF_LIFE, OVERLAP};
use crate::stand_in::StandIn;

type Served = watch::Receiver<Option<Arc<CertifiedKey>>>;

/// A replica that looks when it is told to.
struct Replica {
    options: Options,
    client: Client,
    sender: watch::Sender<Option<Arc<CertifiedKey>>>,
    served: Served,
}

impl Replica {
    fn new(api: &StandIn) -> Self {
        let (sender, served) = watch::channel(None);
        Self { options: StandIn::options(), client: api.client(), sender, served }
    }

    async fn look(&self, now: SystemTime) -> Result<SystemTime, KeeperError> {
        Keeper::new(&self.options, self.client.clone(), self.sender.clone()).look(now).await
    }

    fn serves(&self) -> Option<Vec<u8>> {
        self.served.borrow().as_ref().map(|key| key.cert[0].to_vec())
    }
}

#[tokio::test]
async fn the_first_replica_makes_certificates_and_the_others_serve_them() {
    let api = StandIn::new();
    let replicas = [Replica::new(&api), Replica::new(&api)];
    let now = SystemTime::now();
    assert!(!replicas[0].options.readiness.is_ready());
    replicas[0].look(now).await.unwrap();
    assert_eq!(api.writes(), 3, "the Secret, and all webhooks at once");
    assert!(replicas[0].options.readiness.is_ready());
    replicas[1].look(now).await.unwrap();
    assert_eq!(api.writes(), 3);
    assert!(replicas[0].serves().is_some());
    assert_eq!(replicas[0].serves(), replicas[1].serves());
    let bundle = String::from_utf8(api.data()["ca.crt"].0.clone()).unwrap();
    assert_eq!(api.bundles(), [bundle.clone(), bundle]);
}

#[tokio::test]
async fn who_is_second_takes_what_the_first_one_wrote() {
    let api = StandIn::new();
    let (first, second) = (Replica::new(&api), Replica::new(&api));
    let now = SystemTime::now();
    let elsewhere = StandIn::new();
    let other = Replica::new(&elsewhere);
    other.look(now).await.unwrap();
    let theirs = elsewhere.data();
    api.before_the_next_write({
        let theirs = theirs.clone();
        move |api| api.set_data(&theirs)
    });
    second.look(now).await.unwrap();
    assert_eq!(api.data(), theirs);
    assert_eq!(second.serves(), other.serves());
    first.look(now).await.unwrap();
    assert_eq!(first.serves(), other.serves());
}

#[tokio::test]
async fn what_is_edited_is_healed_by_the_next_look() {
    let api = StandIn::new();
    let replica = Replica::new(&api);
    let now = SystemTime::now();
    replica.look(now).await.unwrap();
    let bundles = api.bundles();
    api.forget_bundle(1);
    replica.look(now).await.unwrap();
    assert_eq!(api.bundles(), bundles);
    api.set_data(&crate::certificates::Data::new());
    replica.look(now).await.unwrap();
    assert_ne!(api.bundles(), bundles, "another CA");
    let writes = api.writes();
    replica.look(now).await.unwrap();
    assert_eq!(api.writes(), writes, "nothing is written where nothing is due");
}

#[tokio::test]
async fn rotations_reach_who_serves_and_who_trusts() {
    let api = StandIn::new();
    let replica = Replica::new(&api);
    let start = SystemTime::now();
    let due = replica.look(start).await.unwrap();
    assert!(start + LEAF_LIFE / 2 < due && due < start + LEAF_LIFE);
    let (leaf, bundles) = (replica.serves(), api.bundles());
    replica.look(due).await.unwrap();
    assert_ne!(replica.serves(), leaf);
    assert_eq!(api.bundles(), bundles, "the same CA");
    // A leaf that is fresh on the day on which the CA is due.
    let late = start + AUTHORITY_LIFE * 2 / 3;
    replica.look(late - LEAF_LIFE / 3).await.unwrap();
    let leaf = replica.serves();
    replica.look(late).await.unwrap();
    assert_eq!(replica.serves(), leaf);
    assert_eq!(api.bundles()[0].matches("BEGIN CERTIFICATE").count(), 2);
    assert!(api.bundles()[0].ends_with(&bundles[0]));
    replica.look(late + OVERLAP).await.unwrap();
    assert_ne!(replica.serves(), leaf);
}

#[tokio::test]
async fn what_is_missing_is_told_by_name_and_what_is_there_is_served() {
    let api = StandIn::new();
    let replica = Replica::new(&api);
    let now = SystemTime::now();
    api.remove_configuration();
    let error = replica.look(now).await.unwrap_err();
    assert_eq!(error.to_string(), "ValidatingWebhookConfiguration c cannot be told whom to trust");
    assert!(replica.serves().is_some() && replica.options.readiness.is_ready());
    api.remove_secret();
    let error = replica.look(now).await.unwrap_err();
    assert_eq!(error.to_string(), "Secret s cannot be read; the chart brings it");
    assert!(replica.serves().is_some());
}
