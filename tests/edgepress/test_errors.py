from edgepress.errors import InputError, MissingRuntimeError, NotComparableError, ProofError, unknown_choice


def test_exit_codes_follow_the_contract() -> None:
    assert (ProofError("").exit_code, InputError("").exit_code, NotComparableError("").exit_code) == (1, 2, 3)


def test_unknown_choice_suggests_the_nearest_name() -> None:
    error = unknown_choice("format", "onx", ["onnx", "tflite"])
    assert str(error) == "Unknown format 'onx'. Did you mean 'onnx'? Known: onnx, tflite."


def test_unknown_choice_lists_names_when_none_is_near() -> None:
    assert "Did you mean" not in str(unknown_choice("format", "zzz", ["onnx", "tflite"]))


def test_missing_runtime_error_names_the_extra() -> None:
    assert "pip install 'edgepress[litert]'" in str(MissingRuntimeError("ai-edge-litert", "litert"))
