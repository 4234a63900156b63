# Reference fits of residual structures by nlme (gls, lme).
# Rscript scripts/regenerate_reference_residual.R tests/data residual_structures.json
suppressMessages({library(nlme); library(jsonlite)})
args <- commandArgs(trailingOnly = TRUE)
folder <- args[1]
read <- function(name) read.csv(gzfile(file.path(folder, name)), stringsAsFactors = TRUE)
orthodont <- read("nlme_Orthodont.csv.gz")
orthodont$visit <- (orthodont$age - 8) / 2 + 1
gaps <- orthodont[(seq_len(nrow(orthodont)) - 1) %% 7 != 3, ]
body <- read("nlme_BodyWeight.csv.gz")
body$Diet <- factor(body$Diet)
ctl_gls <- glsControl(opt = "optim", maxIter = 500, msMaxIter = 1000, tolerance = 1e-10, msTol = 1e-12)
ctl_lme <- lmeControl(opt = "optim", maxIter = 500, msMaxIter = 1000, tolerance = 1e-10, msTol = 1e-12)
out <- list()
# A fit that nlme cannot finish is left out and named.
keep <- function(name, data, formula, residual, scale, fit, method) {
  fit <- tryCatch(fit, error = function(e) NULL)
  if (is.null(fit)) { message("nlme failed: ", name, " ", data, " ", method); return(invisible()) }
  out[[length(out) + 1]] <<- list(
    name = name, data = data, formula = formula, residual = residual, scale = scale,
    method = method, minus2ll = -2 * as.numeric(logLik(fit)),
    beta = if (inherits(fit, "lme")) fixef(fit) else coef(fit),
    se = sqrt(diag(vcov(fit))), sigma = fit$sigma)
}
for (method in c("ML", "REML")) {
  for (d in c("orthodont", "gaps")) {
    data <- get(d)
    f <- distance ~ age * Sex
    text <- "distance ~ age * Sex"
    g <- function(cor = NULL, w = NULL) gls(f, data, correlation = cor, weights = w, method = method, control = ctl_gls)
    l <- function(cor = NULL, w = NULL) lme(f, data, random = ~1 | Subject, correlation = cor, weights = w, method = method, control = ctl_lme)
    mixed <- paste(text, "+ (1 | Subject)")
    occ <- varIdent(form = ~1 | age); by <- varIdent(form = ~1 | Sex)
    keep("cs", d, text, "cs(1 | Subject)", NA, g(corCompSymm(form = ~1 | Subject)), method)
    keep("csh", d, text, "csh(age | Subject)", NA, g(corCompSymm(form = ~1 | Subject), occ), method)
    keep("ar1", d, text, "ar1(age | Subject)", NA, g(corAR1(form = ~visit | Subject)), method)
    keep("arh1", d, text, "arh1(age | Subject)", NA, g(corAR1(form = ~visit | Subject), occ), method)
    keep("arma11", d, text, "arma11(age | Subject)", NA, g(corARMA(form = ~visit | Subject, p = 1, q = 1)), method)
    keep("un", d, text, "un(age | Subject)", NA, g(corSymm(form = ~visit | Subject), occ), method)
    keep("car1", d, text, "car1(age | Subject)", NA, g(corCAR1(form = ~age | Subject)), method)
    keep("exp", d, text, "exp(age | Subject)", NA, g(corExp(form = ~age | Subject)), method)
    keep("gau", d, text, "gau(age | Subject)", NA, g(corGaus(form = ~age | Subject)), method)
    keep("sph", d, text, "sph(age | Subject)", NA, g(corSpher(c(5), form = ~age | Subject)), method)
    keep("diag", d, text, "diag(age | Subject)", NA, g(NULL, occ), method)
    keep("by sex", d, text, "ind(by=Sex)", NA, g(NULL, by), method)
    keep("ri + by sex", d, mixed, "ind(by=Sex)", NA, l(NULL, by), method)
    keep("ri + log-linear", d, mixed, NA, "~ age", l(NULL, varExp(form = ~age)), method)
    keep("ri + arh1 by occasion", d, mixed, "arh1(age | Subject)", NA, l(corAR1(form = ~visit | Subject), occ), method)
    keep("ar1 + by sex", d, text, "ar1(age | Subject)", "~ Sex", g(corAR1(form = ~visit | Subject), by), method)
  }
  b <- lme(weight ~ Time * Diet, body, random = ~1 | Rat, correlation = corCAR1(form = ~Time | Rat),
           method = method, control = ctl_lme)
  keep("ri + car1", "body", "weight ~ Time * Diet + (1 | Rat)", "car1(Time | Rat)", NA, b, method)
  b <- lme(weight ~ Time * Diet, body, random = ~Time | Rat, correlation = corExp(form = ~Time | Rat),
           method = method, control = ctl_lme)
  keep("rs + exp", "body", "weight ~ Time * Diet + (Time | Rat)", "exp(Time | Rat)", NA, b, method)
}
write(toJSON(list(nlme = as.character(packageVersion("nlme")), R = R.version.string, fits = out),
             auto_unbox = TRUE, digits = 12, pretty = TRUE), file.path(folder, args[2]))
