"""What the platform remembers: frozen, serialisable, with a schema number each."""

from __future__ import annotations

from .access import Denial, Grant, GrantKind
from .bandits import BanditArm, BanditState, BanditUpdate
from .base import Record, to_plain
from .consistency import CheckOrigin, FeatureCheck, FeatureReport, ReadSample, ReadSamples
from .data import Batch, CapturedFeature, DatasetSnapshot, Deletion, LookedUp, StoredPin
from .declarations import AppliedDeclaration, AppliedProject, DeclarationVersion
from .experiments import (
    LIVE_EXPERIMENTS,
    Arm,
    ExperimentLook,
    ExperimentStage,
    ExperimentState,
    GuardrailLook,
    Verdict,
)
from .jobs import Delivery, ScoringJob
from .manifest import (
    MANIFEST_SCHEMA,
    ColumnBins,
    EngineChoice,
    EngineName,
    EngineTrial,
    Manifest,
    NativeFormat,
)
from .models import ALIASES, Aliases, GateVerdict, ModelVersion
from .monitoring import Check, Incident, MonitorReport
from .platform import (
    AuditEntry,
    Event,
    EventKind,
    Identity,
    Lease,
    Partitioning,
    Process,
    Role,
    RunProgress,
    RunRetries,
)
from .rollouts import (
    LIVE_STATES,
    Approver,
    CanaryCounts,
    CanaryStep,
    DeployCheck,
    Difference,
    ProcessCounts,
    Regression,
    Rollout,
    RolloutState,
    VersionCounts,
)
from .routing import OFF, RouteChanges
from .selection import FeatureRank, FeatureSelection, RankVerdict
from .serving import ALL_WITHHELD, Given, Observation, Score, ServingStatus
from .spans import Attribute, Span, SpanContext

__all__ = [
    "ALIASES",
    "ALL_WITHHELD",
    "LIVE_EXPERIMENTS",
    "LIVE_STATES",
    "MANIFEST_SCHEMA",
    "OFF",
    "Aliases",
    "AppliedDeclaration",
    "AppliedProject",
    "Approver",
    "Arm",
    "Attribute",
    "AuditEntry",
    "BanditArm",
    "BanditState",
    "BanditUpdate",
    "Batch",
    "CanaryCounts",
    "CanaryStep",
    "CapturedFeature",
    "Check",
    "CheckOrigin",
    "ColumnBins",
    "DatasetSnapshot",
    "DeclarationVersion",
    "Deletion",
    "Delivery",
    "Denial",
    "DeployCheck",
    "Difference",
    "EngineChoice",
    "EngineName",
    "EngineTrial",
    "Event",
    "EventKind",
    "ExperimentLook",
    "ExperimentStage",
    "ExperimentState",
    "FeatureCheck",
    "FeatureRank",
    "FeatureReport",
    "FeatureSelection",
    "GateVerdict",
    "Given",
    "Grant",
    "GrantKind",
    "GuardrailLook",
    "Identity",
    "Incident",
    "Lease",
    "LookedUp",
    "Manifest",
    "ModelVersion",
    "MonitorReport",
    "NativeFormat",
    "Observation",
    "Partitioning",
    "Process",
    "ProcessCounts",
    "RankVerdict",
    "ReadSample",
    "ReadSamples",
    "Record",
    "Regression",
    "Role",
    "Rollout",
    "RolloutState",
    "RouteChanges",
    "RunProgress",
    "RunRetries",
    "Score",
    "ScoringJob",
    "ServingStatus",
    "Span",
    "SpanContext",
    "StoredPin",
    "Verdict",
    "VersionCounts",
    "to_plain",
]
