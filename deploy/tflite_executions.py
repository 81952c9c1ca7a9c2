def tflite_ways():
    raise NotImplementedError
