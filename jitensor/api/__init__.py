"""TensorFlow's names: op functions over the op table, and the namespaces that `jt.` shows."""
