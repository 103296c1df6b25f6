"""The demonstration: the whole loop, unattended, with the real processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from penstock.cli.failures import UsageError
from penstock.errors import nearest
from penstock.runtime import init_project, open_services

from .home import DEFAULT_HOME, Processes, prepare_home
from .market import read_market, simulated_market
from .play import Play
from .stages import Stages
from .summary import summary_screen, summary_value
from .world import World

if TYPE_CHECKING:
    from penstock.cli.screen import Screen

__all__ = ["run"]

DEMOS = ("psystock",)


def run(
    screen: Screen,
    name: str = typer.Argument("psystock", help="Which demonstration: psystock."),
    data: str = typer.Option(
        "", "--data", help="Folder with files like BTCUSDT.csv.gz; simulated otherwise."
    ),
) -> None:
    """Run the whole loop unattended; fails where a step does not do what it says."""
    if name not in DEMOS:
        raise UsageError(f"There is no demonstration {name!r}. {nearest(name, DEMOS)}", name=name)
    market = read_market(Path(data).absolute()) if data else simulated_market()
    home = screen.home if screen.home_given else screen.home / DEFAULT_HOME
    api, serve = prepare_home(home)
    token = init_project(home).read_text(encoding="ascii").strip()
    screen.say(f"Running in {home}")
    with open_services(home) as services:
        play = Play(Stages(screen), services, market)
        world = World(f"http://127.0.0.1:{api}", f"http://127.0.0.1:{serve}", token, market.live)
        with Processes(home) as processes:
            bad = play.declare()
            play.processes_start(processes, world)
            play.ingest(bad)
            play.train(world)
            play.live(world)
            play.change(world)
            play.recover(world)
            play.look_back()
            world.close()
            with play.stages.stage("stop") as stage:
                code = processes.stop()
                stage.expect(code == 0, f"all processes stop cleanly (exit code {code})")
                stage.detail = "all processes stopped"
        screen.show(summary_value(play), summary_screen(play, home))
