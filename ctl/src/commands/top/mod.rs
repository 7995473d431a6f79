//! `top`: what goes on, live. [`mod@feed`] asks the daemon, [`app`] is what is shown and what keys do, [`draw`] and [`panes`] show it, [`rates`] are what
//! counters make in a second. Here the three are brought together, and the terminal is taken and given back.

mod app;
mod draw;
mod feed;
mod panes;
mod rates;

use std::io::{self, IsTerminal};
use std::panic;
use std::pin::pin;
use std::thread;

use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::app::{App, Wants};
use self::feed::{News, feed};
use super::Session;
use crate::cli::top::TopArgs;
use crate::failure::Failure;

/// So much that is new may wait to be shown.
const WAITING: usize = 64;

/// What the shell is told of a program that this signal ended.
const fn exit_of(signal: SignalKind) -> u8 {
    128 + signal.as_raw_value() as u8
}

/// The terminal, which is as it was before once this is gone: whichever way `top` ends. A panic gives it back by ratatui's hook before it is
/// told.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Self, Failure> {
        let terminal = ratatui::try_init().map_err(|e| Failure::system("terminal", &e))?;
        // ratatui's hook gives all back but the cursor, which is left to a drop that an abort does not come to.
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let _ = execute!(io::stdout(), Show);
            before(info);
        }));
        Ok(Self(terminal))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whose terminal has gone has nothing to get back.
        let _ = ratatui::try_restore();
    }
}

impl Session {
    pub(super) async fn top(&self, args: TopArgs) -> Result<(), Failure> {
        is_possible()?;
        // A daemon that is not there is told as by any other command.
        let first = feed::read(self, &args.only).await?;
        let mut app = App::new();
        app.learn(first);
        let mut ends = [SignalKind::terminate(), SignalKind::hangup()].map(|kind| (kind, signal(kind)));
        let ended = {
            let mut screen = Screen::take()?;
            self.watch_screen(&mut screen.0, &mut app, &args, &mut ends).await
        };
        match ended? {
            None => Ok(()),
            Some(signal) => Err(Failure::Reported(exit_of(signal))),
        }
    }

    /// Until the user or a signal ends it, which is given.
    async fn watch_screen(
        &self,
        terminal: &mut DefaultTerminal,
        app: &mut App,
        args: &TopArgs,
        ends: &mut [(SignalKind, io::Result<Signal>); 2],
    ) -> Result<Option<SignalKind>, Failure> {
        let (tell, mut news) = mpsc::channel(WAITING);
        let (want, wants) = watch::channel(Wants::default());
        let mut feed = pin!(feed(self, &args.only, args.every, wants, tell));
        let mut keys = keys();
        let theme = draw::Theme {
            colour: self.out.style.colour && has_colours(&std::env::var("TERM").unwrap_or_default()),
        };
        let failed = |e: io::Error| Failure::system("terminal", &e);
        while !app.over {
            terminal.draw(|frame| draw::draw(frame, app, theme)).map_err(failed)?;
            let [(terminate, on_terminate), (hangup, on_hangup)] = &mut *ends;
            tokio::select! {
                never = feed.as_mut() => match never {},
                told = news.recv() => learn(app, told, &mut news),
                key = keys.recv() => match key {
                    Some(Ok(Event::Key(key))) if key.is_press() => app.press(key),
                    // A new size is drawn into, others are not asked for.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(failed(error)),
                    None => return Ok(Some(*hangup)),
                },
                () = comes(on_terminate) => return Ok(Some(*terminate)),
                () = comes(on_hangup) => return Ok(Some(*hangup)),
            }
            want.send_if_modified(|wants| {
                let differs = *wants != app.wants;
                *wants = app.wants;
                differs
            });
        }
        Ok(None)
    }
}

/// Takes in one thing and all that waits behind it, so that it is drawn once.
fn learn(app: &mut App, first: Option<News>, more: &mut mpsc::Receiver<News>) {
    let mut next = first;
    while let Some(news) = next {
        app.learn(news);
        next = more.try_recv().ok();
    }
}

/// Waits for a signal. One that can't be waited for does what it does to any program.
async fn comes(signal: &mut io::Result<Signal>) {
    match signal {
        Ok(signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// What is typed. The thread waits for it and ends with the program.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (tell, keys) = mpsc::channel(WAITING);
    thread::spawn(move || {
        loop {
            let key = event::read();
            let is_over = key.is_err();
            if tell.blocking_send(key).is_err() || is_over {
                return;
            }
        }
    });
    keys
}

/// Whether a terminal of this type has colours at all, as its name tells (terminfo(5)).
fn has_colours(term: &str) -> bool {
    let is_old = ["vt52", "vt100", "vt102", "vt220", "vt320"]
        .iter()
        .any(|old| term.starts_with(old));
    !is_old && !["-m", "-mono"].iter().any(|end| term.ends_with(end))
}

/// It needs a terminal on both sides.
fn is_possible() -> Result<(), Failure> {
    let refused = |cause: &str| {
        let hint = "`vswitchctl show --watch` shows ports as text, `vswitchctl port list --json` is for programs";
        Err(Failure::usage("top", cause, hint))
    };
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return refused("it needs a terminal to read keys from and to draw on");
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return refused("this terminal (TERM) can't place text");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::has_colours;

    #[test]
    fn old_terminals_have_no_colours() {
        for (term, has) in [
            ("xterm-256color", true),
            ("linux", true),
            ("vt100", false),
            ("xterm-mono", false),
            ("linux-m", false),
        ] {
            assert_eq!(has_colours(term), has, "{term}");
        }
    }
}
