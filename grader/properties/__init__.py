"""What every part of a kind must hold, declared by a suite in a line a part. Layer 2.

    TestProperties = holds(
        case("rms_norm", rows, any_layout, computes_in_the_inputs_type, expect=scaled),
        case("Layer", layer_inputs, no_state_between_calls, made=loaded),
    )

makes ordinary tests, each with a title and a part. `rows(draw)` gives the calls, `given(x, eps=1e-3)` each, in several
sizes and with the options together. Every property brings a generic mistake: the gate plants it in the solution, at the
part of every case that declares the property, and the property's test must reject it.

    keeps_arguments                needs no line: the sandbox looks at the arguments of every call
    any_iterable, any_sequence     lists, tuples, and what can be read once only
    any_layout                     tensors transposed in memory, with gaps, expanded
    result_is_new                  results share no memory with arguments, with state or with one another
    no_state_between_calls         equal calls give equal results, whatever came between
    parameters_are_read_each_time  a module computes with the parameters that it has now
    settings_are_read_each_time    so does an optimizer with its settings
    computes_in_the_inputs_type    float64 throughout, float32 stays float32
    is_differentiable              gradients are those of the oracle
    rounds_once                    half precision is rounded at the end alone
    type_follows                   of mixed inputs, which one gives the result its type
    empty_and_single               the edges
"""

from grader.properties.any_iterable import any_iterable, any_sequence
from grader.properties.any_layout import any_layout
from grader.properties.case import Case, Drawn, Given, case, given, holds, on
from grader.properties.computes_in_the_inputs_type import computes_in_the_inputs_type
from grader.properties.empty_and_single import empty_and_single
from grader.properties.is_differentiable import is_differentiable
from grader.properties.keeps_arguments import keeps_arguments
from grader.properties.no_state_between_calls import no_state_between_calls
from grader.properties.parameters_are_read_each_time import parameters_are_read_each_time
from grader.properties.property import Property
from grader.properties.result_is_new import result_is_new
from grader.properties.rounds_once import rounds_once, type_follows
from grader.properties.settings_are_read_each_time import settings_are_read_each_time

ALL = (
    keeps_arguments, any_iterable, any_sequence, any_layout, result_is_new, no_state_between_calls,
    parameters_are_read_each_time, settings_are_read_each_time, computes_in_the_inputs_type, is_differentiable,
    rounds_once, type_follows, empty_and_single,
)  # fmt: skip

# what any function of tensors holds, and any module
EVERY_FUNCTION = (any_layout, result_is_new, no_state_between_calls, computes_in_the_inputs_type)
EVERY_MODULE = (*EVERY_FUNCTION, parameters_are_read_each_time)

__all__ = [
    "ALL",
    "EVERY_FUNCTION",
    "EVERY_MODULE",
    "Case",
    "Drawn",
    "Given",
    "Property",
    "any_iterable",
    "any_layout",
    "any_sequence",
    "case",
    "computes_in_the_inputs_type",
    "empty_and_single",
    "given",
    "holds",
    "is_differentiable",
    "keeps_arguments",
    "no_state_between_calls",
    "on",
    "parameters_are_read_each_time",
    "result_is_new",
    "rounds_once",
    "settings_are_read_each_time",
    "type_follows",
]
