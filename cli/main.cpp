#include "cli/app.h"

int main(int argc, char** argv) { return regauge::cli::run(argc, argv); }
