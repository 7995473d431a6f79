//! What the daemon tells, asked for again and again and whatever becomes of the daemon: looks at its ports, events, and what a pane wants that is
//! open.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use vswitch_api::Event;
use vswitch_api::event::EventSelect;
use vswitch_api::request::SwitchFilter;
use vswitch_api::view::{FdbEntry, PortView, SwitchView};
use vswitch_client::with_query;

use super::app::Wants;
use crate::cli::OnlySwitch;
use crate::commands::Session;
use crate::commands::doctor::Item;
use crate::failure::Failure;

/// So long it is waited until a daemon that has gone is asked again for its events.
const RETRY: Duration = Duration::from_secs(1);

/// Something new.
#[derive(Debug)]
pub enum News {
    /// Switches and ports, and when they were so.
    Look(Instant, Vec<SwitchView>, Vec<PortView>),
    /// All stations.
    Stations(Vec<FdbEntry>),
    /// Something happened.
    Happened(Box<Event>),
    /// What the doctor says.
    Doctor(Vec<Item>),
    /// The daemon does not answer, or says no.
    Trouble(String),
}

/// Tells news for ever.
pub async fn feed(
    session: &Session,
    only: &OnlySwitch,
    every: Duration,
    wants: watch::Receiver<Wants>,
    news: mpsc::Sender<News>,
) -> Infallible {
    let (never, _, _) = tokio::join!(
        look(session, only, every, wants.clone(), &news),
        events(session, &news),
        doctor(session, wants, &news),
    );
    never
}

/// Switches and ports as they are now.
pub async fn read(session: &Session, only: &OnlySwitch) -> Result<News, Failure> {
    let switches = match &only.switch {
        Some(name) => vec![session.client.switch(name).await?],
        None => session.client.switches().await?,
    };
    let ports = with_query("/v1/ports", &SwitchFilter::from(only))?;
    let ports = session.client.get(&ports).await?;
    Ok(News::Look(Instant::now(), switches, ports))
}

async fn look(
    session: &Session,
    only: &OnlySwitch,
    every: Duration,
    mut wants: watch::Receiver<Wants>,
    news: &mpsc::Sender<News>,
) -> Infallible {
    loop {
        let mut answer = read(session, only).await;
        let wants_stations = wants.borrow_and_update().stations;
        if wants_stations && let Ok(look) = answer {
            // Who has gone shows nothing any more.
            let _ = news.send(look).await;
            answer = stations(session, only).await;
        }
        let _ = news
            .send(answer.unwrap_or_else(|failure| News::Trouble(told(&failure))))
            .await;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            // A pane that was opened is not to be empty until then.
            changed = wants.changed() => if changed.is_err() {
                tokio::time::sleep(every).await;
            },
        }
    }
}

async fn stations(session: &Session, only: &OnlySwitch) -> Result<News, Failure> {
    let tables = session.tables(only.switch.clone()).await?;
    Ok(News::Stations(
        tables.into_iter().flat_map(|(_, entries)| entries).collect(),
    ))
}

async fn events(session: &Session, news: &mpsc::Sender<News>) -> Infallible {
    loop {
        // That there is trouble is told by the looks.
        if let Ok(mut happened) = session.client.events(&EventSelect::default()).await {
            while let Some(Ok(event)) = happened.next().await {
                let _ = news.send(News::Happened(Box::new(event))).await;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The doctor looks when its pane is opened, and when it is asked to.
async fn doctor(session: &Session, mut wants: watch::Receiver<Wants>, news: &mpsc::Sender<News>) -> Infallible {
    let mut done = 0;
    loop {
        let asked = wants.borrow_and_update().doctor;
        if asked > done {
            done = asked;
            let (items, _) = session.installation().await;
            let _ = news.send(News::Doctor(items)).await;
        } else if wants.changed().await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// A failure in one line.
pub fn told(failure: &Failure) -> String {
    match failure {
        Failure::Error { error, .. } => format!("{}: {}", error.object, error.cause),
        other => format!("{other:?}"),
    }
}
