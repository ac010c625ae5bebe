"The arithmetic of archclf.metrics against scikit-learn, SciPy and slow, plain rewritings of the definitions."
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from archclf import metrics

settings.register_profile('archclf', max_examples=60, deadline=None)
settings.load_profile('archclf')


@st.composite
def tables(draw, least=1):
    "A predictions table of up to 60 photos and 6 classes, some of them without a photo, with coarse probabilities so that ties occur."
    classes = [f'class {i}' for i in range(draw(st.integers(1, 6)))]
    photos, rng = draw(st.integers(least, 60)), np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = rng.integers(0, 4, (photos, len(classes))) + (np.arange(len(classes)) == 0)
    labels = rng.choice(classes[:draw(st.integers(1, len(classes)))], photos)
    return metrics.predictions_table([f'{i}.jpg' for i in range(photos)], labels, weights/weights.sum(1, keepdims=True), classes)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_is_scipys(successes, trials):
    successes = min(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(confidence_level=.95, method='wilson')
    low, high = metrics.wilson_interval(successes, trials, z=1.959963984540054)
    assert np.allclose([low, high], [expected.low, expected.high], atol=1e-9)
    assert 0 <= low <= successes/trials + 1e-12 and successes/trials - 1e-12 <= high <= 1


@pytest.mark.filterwarnings('ignore:A single label')
@given(tables())
def test_classes_are_scikit_learns(predictions):
    labels = metrics.class_labels(predictions)
    report = metrics.class_report(predictions)
    assert np.array_equal(metrics.confusion(predictions), confusion_matrix(predictions['label'], predictions['predicted'], labels=labels))
    expected = precision_recall_fscore_support(predictions['label'], predictions['predicted'], labels=labels, zero_division=np.nan)
    for name, values in zip(('precision', 'recall', 'f1', 'photos'), expected):
        assert np.allclose(report[name], values, equal_nan=True), name
    for name in 'precision', 'recall':
        known = report[name].notna()
        assert (report[f'{name}_low'] <= report[name] + 1e-12)[known].all() and (report[name] - 1e-12 <= report[f'{name}_high'])[known].all()


@given(tables())
def test_summary_is_scikit_learns(predictions):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        numbers = metrics.summary(predictions)
    true, predicted = predictions['label'], predictions['predicted']
    assert numbers['accuracy'] == pytest.approx(accuracy_score(true, predicted), abs=1e-4)
    assert numbers['macro_f1'] == pytest.approx(f1_score(true, predicted, average='macro', zero_division=0), abs=1e-4)
    assert numbers['interval'][0] <= numbers['accuracy'] <= numbers['interval'][1]


@given(tables())
def test_loss_is_scikit_learns(predictions):
    labels = metrics.class_labels(predictions)
    possible = predictions[predictions['loss'] < 80]
    if len(labels) > 1 and len(possible):
        assert possible['loss'].mean() == pytest.approx(log_loss(possible['label'], metrics.probabilities(possible), labels=labels), abs=1e-6)


@given(tables(), st.integers(1, 20))
def test_calibration_error_by_definition(predictions, bins):
    edges, error = np.linspace(0, 1, bins + 1), 0
    for low, high in zip(edges, edges[1:]):
        inside = predictions[(predictions['confidence'] > low) & (predictions['confidence'] <= high)]
        if len(inside):
            gap = (inside['label'] == inside['predicted']).mean() - inside['confidence'].mean()
            error += abs(gap)*len(inside)/len(predictions)
    assert metrics.expected_calibration_error(predictions, bins) == pytest.approx(error, abs=1e-12)
    assert metrics.reliability(predictions, bins)['photos'].sum() == len(predictions)


@given(tables())
def test_coverage_by_definition(predictions):
    for row in metrics.coverage_curve(predictions).itertuples():
        kept = predictions[predictions['confidence'] >= row.threshold]
        assert row.coverage == pytest.approx(len(kept)/len(predictions))
        assert row.accuracy == pytest.approx((kept['label'] == kept['predicted']).mean())


@given(tables(), st.sampled_from([.5, .7, .8, .9]))
def test_threshold_by_definition(predictions, target):
    threshold, tie = metrics.choose_threshold(predictions, target), metrics.wilson_interval(len(predictions)/2, len(predictions))[1]
    assert threshold == round(threshold, 3) and threshold > tie > .5
    confidence, right = predictions['confidence'].to_numpy(), (predictions['label'] == predictions['predicted']).to_numpy()
    kept = {step/1000: right[confidence >= step/1000] for step in range(int(1000*tie) + 1, 1001)}
    reached = [least for least, answers in kept.items() if len(answers) >= round(3/(1 - target))
               and answers.mean() >= target - np.sqrt(target*(1 - target)/len(answers))]
    vouched = {least: metrics.wilson_interval(answers.sum(), len(answers))[0] for least, answers in kept.items()}
    assert threshold == (reached[0] if reached else max(vouched, key=vouched.get))


def test_groups_widen_the_interval():
    predictions = metrics.predictions_table([f'{i}.jpg' for i in range(100)], ['a']*100, [[.9, .1]]*80 + [[.1, .9]]*20, ['a', 'b'])
    alone, grouped = metrics.summary(predictions), metrics.summary(predictions, groups=[i//10 for i in range(100)])
    assert grouped['groups'] == 10 and grouped['accuracy'] == alone['accuracy']
    assert np.allclose(grouped['interval'], metrics.wilson_interval(8, 10), atol=1e-4)
    assert grouped['classes']['a']['recall_interval'] == grouped['interval']
    assert grouped['classes']['b'] == dict(photos=0, precision=0, recall=None, recall_interval=[0, 1])


@pytest.mark.parametrize('wrong, threshold', [(5, .597), (7, .597), (8, .601)])  # one standard error of 100 photos: 2.2 points
def test_a_target_is_reached_within_an_error(wrong, threshold):
    rows = [[.9, .1]]*(100 - wrong) + [[.4, .6]]*wrong
    predictions = metrics.predictions_table([f'{i}.jpg' for i in range(100)], ['a']*100, rows, ['a', 'b'])
    assert metrics.choose_threshold(predictions, target=.95) == threshold


def test_a_tie_is_never_sure():
    "Sixteen photos, all right: a confidence that a coin reaches as often is not enough."
    few = metrics.predictions_table([f'{i}.jpg' for i in range(16)], 'a', [[.55, .45], [.95, .05]]*8, ['a', 'b'])
    assert .7 < metrics.choose_threshold(few) <= .95
    many = metrics.predictions_table([f'{i}.jpg' for i in range(1600)], 'a', [[.55, .45], [.95, .05]]*800, ['a', 'b'])
    assert .5 < metrics.choose_threshold(many) <= .55
