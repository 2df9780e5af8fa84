//! Values, typed ids, state machines and pure planners of Sendense Hub.
